"""What a plan promises: reasons everywhere, overrides honoured or refused, never lossier with more memory."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_hwdetect import (
    POLICY_FIELDS,
    ArgumentError,
    CpuFacts,
    ExecutionPolicy,
    HardwareProfile,
    MemoryFacts,
    ModelFacts,
    Requirements,
    TorchFacts,
    UnknownFieldError,
    UnsupportedPolicyError,
    choose_policy,
    estimate_memory,
    profile_from_recorded,
    read_model_facts,
)
from distill_hwdetect.memory import IMPORTS_BYTES
from distill_hwdetect.rules import RULES

NAMES = sorted(path.stem for path in (Path(__file__).parent / "profiles").glob("*.json"))
GIB = 2**30


def cpu(
    *flags: str, gib: float = 16, packages: dict[str, str] | None = None, torch: str = "2.15.0"
) -> HardwareProfile:
    """Return a four-core x86 machine."""
    return HardwareProfile(
        cpu=CpuFacts(machine="x86_64", logical_cores=4, physical_cores=4, usable_cores=4, flags=flags),
        memory=MemoryFacts(total_bytes=int(gib * GIB), available_bytes=int(gib * GIB)),
        torch=TorchFacts(version=torch, cuda="", hip="", xpu=False),
        packages=packages,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_every_field_carries_rule_reason_and_source(
    name: str, training: bool, recorded: Callable[[str], HardwareProfile], sized: Callable[[str], ModelFacts]
) -> None:
    """No field is 'because default': each names a row of the table, and the plan survives JSON."""
    model = sized("1b")
    policy = choose_policy(
        recorded(name), Requirements(task="causal", model=model, training=training, teacher=model)
    )
    for each in (policy, policy.teacher):
        assert isinstance(each, ExecutionPolicy)
        assert [field for field, _, _ in each.explain()] == list(POLICY_FIELDS)
        for field in POLICY_FIELDS:
            choice = each.choice(field)
            assert choice.rule in RULES
            assert RULES[choice.rule].field in (field, "*")
            assert len(choice.reason) > 10
            assert choice.source
    json.dumps(policy.to_dict())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 7, 24])
def test_the_effective_batch_is_kept(
    name: str, batch: int, recorded: Callable[[str], HardwareProfile], sized: Callable[[str], ModelFacts]
) -> None:
    """micro_batch times accumulation is what was asked for, on every machine."""
    policy = choose_policy(
        recorded(name), Requirements(task="causal", model=sized("8b"), effective_batch=batch)
    )
    micro, steps = policy.micro_batch.value, policy.accumulation.value
    assert micro * steps == batch


LOSS = {"none": 0, "int8": 1, "nf4": 2}


@pytest.mark.parametrize("size", ["1b", "8b"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gib=st.floats(0.2, 100), more=st.floats(0, 100))
def test_more_memory_is_never_lossier(
    size: str, sized: Callable[[str], ModelFacts], gib: float, more: float
) -> None:
    """With more memory the storage is the same or less lossy, and what fitted still fits."""
    needs = Requirements(task="causal", model=sized(size))
    small, large = (
        choose_policy(cpu("avx2", gib=gib), needs),
        choose_policy(cpu("avx2", gib=gib + more), needs),
    )
    assert LOSS[large.quantization.value] <= LOSS[small.quantization.value]
    assert large.memory.fits >= small.memory.fits


def test_what_does_not_fit_comes_back_most_frugal(sized: Callable[[str], ModelFacts]) -> None:
    """A model far too large gives a policy whose memory says that it does not fit."""
    policy = choose_policy(cpu("avx2", gib=1), Requirements(task="causal", model=sized("70b")))
    assert not policy.memory.fits
    assert (policy.quantization.value, policy.micro_batch.value) == ("nf4", 1)
    assert policy.gradient_checkpointing.value is True


def test_small_models_are_not_put_into_nf4_unless_asked(sized: Callable[[str], ModelFacts]) -> None:
    """Below half a billion parameters nf4 costs too much to be a rule's choice; a user may ask for it."""
    needs = Requirements(task="causal", model=sized("0.1b"))
    assert choose_policy(cpu("avx2", gib=0.2), needs).quantization.value == "int8"
    asked = choose_policy(cpu("avx2"), replace(needs, adapter="qlora"))
    assert (asked.quantization.value, asked.adapter.value) == ("nf4", "qlora")
    # Paged optimizers are not paged on a CPU.
    assert asked.optimizer.value == "adamw_torch_fused"


def test_full_training_keeps_float32_weights(sized: Callable[[str], ModelFacts]) -> None:
    """Trained weights are stored in float32 even where bfloat16 is computed."""
    policy = choose_policy(
        cpu("avx2", "avx512_bf16"), Requirements(task="causal", model=sized("0.1b"), adapter="full")
    )
    assert policy.compute_dtype.value == "bfloat16"
    assert policy.storage_dtype.value == "float32"
    assert policy.quantization.value == "none"


@pytest.mark.parametrize(
    ("name", "overrides", "words", "field", "suggestion"),
    [
        (
            "cpu-avx2-zen2-2c-24g",
            {"compute_dtype": "bfloat16"},
            "only emulates it (AVX2; measured 10 times slower",
            "compute_dtype",
            "float32",
        ),
        ("cpu-avx2-zen2-2c-24g", {"compute_dtype": "float16"}, "only emulates", "compute_dtype", "float32"),
        (
            "cpu-avx2-zen2-2c-24g",
            {"compute_dtype": "int4"},
            "the allowed types are float32",
            "compute_dtype",
            "float32",
        ),
        ("cpu-avx2-zen2-2c-24g", {"device": "cuda"}, "this machine has cpu", "device", "cpu"),
        (
            "cpu-avx2-zen2-2c-24g",
            {"optimizer": "paged_adamw_8bit"},
            "22 times slower",
            "optimizer",
            "adamw_torch_fused",
        ),
        ("cpu-avx2-zen2-2c-24g", {"attention": "flash_attention_2"}, "NVIDIA", "attention", "sdpa"),
        ("cpu-avx2-zen2-2c-24g", {"offload": "on"}, "nowhere to offload", "offload", "off"),
        ("cpu-avx2-zen2-2c-24g", {"ipex": "on"}, "not installed", "ipex", "off"),
        ("cpu-avx2-zen2-2c-24g", {"micro_batch": 3}, "effective batch of 8", "micro_batch", 2),
        (
            "cpu-avx2-zen2-2c-24g",
            {"micro_batch": 4, "accumulation": 4},
            "effective batch of 8",
            "micro_batch",
            2,
        ),
        ("cpu-avx2-zen2-2c-24g", {"micro_batch": 0}, "at least 1", "micro_batch", 1),
        ("cpu-avx2-zen2-2c-24g", {"compile": "maybe"}, "'on', 'off' or 'auto'", "compile", "auto"),
        (
            "cpu-avx2-zen2-2c-24g",
            {"quantisation": "nf4"},
            "Did you mean 'quantization'?",
            "overrides",
            "quantization",
        ),
        ("cpu-avx2-zen2-2c-24g", {"quantization": "nf"}, "Did you mean 'nf4'?", "quantization", "nf4"),
        (
            "cpu-avx2-zen2-2c-24g",
            {"adapter": "full", "quantization": "int8"},
            "cannot be trained",
            "quantization",
            "none",
        ),
        (
            "cpu-avx2-zen2-2c-24g",
            {"adapter": "qlora", "quantization": "none"},
            "LoRA over nf4",
            "quantization",
            "nf4",
        ),
        (
            "cpu-avx2-zen2-2c-24g",
            {"adapter": "qlora", "quantization": "int8"},
            "stores nf4",
            "quantization",
            "nf4",
        ),
        (
            "nvidia-t4-colab",
            {"compute_dtype": "bfloat16"},
            "whatever is_bf16_supported() says",
            "compute_dtype",
            "float16",
        ),
        ("nvidia-t4-colab", {"attention": "flash_attention_2"}, "8.0", "attention", "sdpa"),
        ("nvidia-t4-colab", {"ipex": "on"}, "cuda:0", "ipex", "off"),
        ("nvidia-v100-16g", {"device": "cuda:0"}, "no kernels", "device", "cpu"),
        ("windows-cuda-driver-too-old", {"device": "cuda"}, "update the driver", "device", "cpu"),
        ("apple-m1-8g", {"optimizer": "adamw_8bit"}, "Apple", "optimizer", "adamw_torch"),
        ("apple-m1-8g", {"compute_dtype": "bfloat16"}, "Metal only emulates", "compute_dtype", "float32"),
    ],
)
def test_an_override_that_cannot_work_is_refused_with_the_reason(
    name: str,
    overrides: dict[str, object],
    words: str,
    field: str,
    suggestion: object,
    recorded: Callable[[str], HardwareProfile],
    sized: Callable[[str], ModelFacts],
) -> None:
    """The error says what was found and why it cannot work, and names a value that the machine takes."""
    needs = Requirements(task="causal", model=sized("1b"), overrides=overrides)
    with pytest.raises(UnsupportedPolicyError) as caught:
        choose_policy(recorded(name), needs)
    error = caught.value
    assert words in str(error)
    assert isinstance(error, ValueError)
    assert (error.field, error.suggestion) == (field, suggestion)
    if field == "overrides":
        assert (error.found, error.allowed) == (*overrides, POLICY_FIELDS)
    else:
        assert error.found == overrides[field]
        assert error.suggestion in error.allowed or not error.allowed
        choose_policy(recorded(name), replace(needs, overrides={**overrides, field: suggestion}))


def test_overrides_that_work_are_honoured_and_named(sized: Callable[[str], ModelFacts]) -> None:
    """A user's value comes out unchanged under the rule ``override``; ``auto`` is left to the rules."""
    overrides: dict[str, object] = {
        "threads": 1,
        "workers": 2,
        "micro_batch": 2,
        "compile": "on",
        "gradient_checkpointing": "on",
        "optimizer": "adamw_torch",
        "attention": "eager",
        "quantization": "int8",
        "device": "auto",
    }
    policy = choose_policy(cpu("avx2"), Requirements(task="causal", model=sized("1b"), overrides=overrides))
    expected = {**overrides, "compile": True, "gradient_checkpointing": True, "device": "cpu"}
    assert {name: policy.value(name) for name in overrides} == expected
    assert {policy.choice(name).rule for name in overrides if name != "device"} == {"override"}
    assert policy.device.rule == "device-cpu"
    assert policy.accumulation.value == 4


def test_missing_bitsandbytes_refuses_quantization_and_keeps_the_rules_away_from_it(
    sized: Callable[[str], ModelFacts],
) -> None:
    """Without bitsandbytes nothing is quantized, and asking for it names the package to install."""
    bare = cpu("avx2", gib=3, packages={"torch": "2.15.0"})
    needs = Requirements(task="causal", model=sized("1b"))
    assert choose_policy(bare, needs).quantization.value == "none"
    with pytest.raises(UnsupportedPolicyError, match="pip install bitsandbytes") as caught:
        choose_policy(bare, replace(needs, adapter="qlora"))
    assert (caught.value.field, caught.value.found, caught.value.suggestion) == ("adapter", "qlora", "lora")


def test_ipex_is_used_only_where_it_is_installed_matches_and_helps(
    sized: Callable[[str], ModelFacts],
) -> None:
    """``auto`` runs bfloat16 with it beside torch 2.8; ``on`` wherever it works; else it is explained."""
    packages = {"intel-extension-for-pytorch": "2.8.0", "torch": "2.8.0"}
    training = Requirements(task="causal", model=sized("0.1b"))
    running = replace(training, training=False)
    native = cpu("avx2", "avx512_bf16", packages=packages, torch="2.8.0+cpu")
    assert choose_policy(native, running).ipex.value is True
    assert choose_policy(native, training).ipex.value is False
    assert "gains more" in choose_policy(native, training).ipex.reason
    assert choose_policy(native, replace(training, overrides={"ipex": "on"})).ipex.value is True
    beside = cpu("avx2", packages=packages, torch="2.15.0")
    assert "needs torch 2.8, found 2.15.0" in choose_policy(beside, training).ipex.reason
    with pytest.raises(UnsupportedPolicyError, match=r"needs torch 2\.8"):
        choose_policy(beside, replace(training, overrides={"ipex": "on"}))


def test_families_without_fused_attention_get_the_eager_one(sized: Callable[[str], ModelFacts]) -> None:
    """``from_pretrained`` refuses sdpa for them; T5 learnt it with transformers 5."""
    facts = replace(sized("bert"), family="deberta-v2")
    assert choose_policy(cpu("avx2"), Requirements(task="masked", model=facts)).attention.value == "eager"
    old = cpu("avx2", packages={"transformers": "4.57.6"})
    assert choose_policy(old, Requirements(task="seq2seq", model=sized("t5"))).attention.value == "eager"
    assert (
        choose_policy(cpu("avx2"), Requirements(task="seq2seq", model=sized("t5"))).attention.value == "sdpa"
    )


def test_a_teacher_is_planned_beside_the_student(sized: Callable[[str], ModelFacts]) -> None:
    """Its weights count, it is only run, and it reads the student's batch."""
    needs = Requirements(task="causal", model=sized("0.1b"), teacher=sized("1b"), effective_batch=4)
    policy = choose_policy(cpu("avx2"), needs)
    assert policy.teacher is not None
    assert policy.memory.teacher_bytes == 4 * sized("1b").parameters
    assert policy.teacher.micro_batch.value == policy.micro_batch.value
    assert policy.teacher.optimizer.rule == "optimizer-unused"


def test_an_estimate_from_a_policy_is_the_policys_own(sized: Callable[[str], ModelFacts]) -> None:
    """``estimate_memory`` on a finished policy gives the bytes that the plan reported."""
    model = sized("1b")
    policy = choose_policy(cpu("avx2"), Requirements(task="causal", model=model, effective_batch=4))
    again = estimate_memory(model, policy, task="causal", budget_bytes=policy.memory.budget_bytes)
    assert again == policy.memory


SMALL_SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4}
MIDDLE_SHAPE = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
}
MARIAN_SHAPE = {
    "d_model": 256,
    **{f"{side}_layers": 3 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 704 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
}


@pytest.mark.parametrize(
    ("family", "shape", "vocabulary", "adapter", "batch", "checkpointing", "measured"),
    [
        ("bert", SMALL_SHAPE, 8192, "lora", 8, True, 220),
        ("marian", MARIAN_SHAPE, 8192, "lora", 8, False, 590),
        ("llama", {**MIDDLE_SHAPE, "tie_word_embeddings": True}, 16384, "qlora", 2, False, 488),
    ],
)
def test_the_estimate_reproduces_measured_peaks(
    family: str,
    shape: dict[str, object],
    vocabulary: int,
    adapter: Literal["lora", "qlora"],
    batch: int,
    checkpointing: bool,
    measured: int,
) -> None:
    """Runs on 128 tokens: at most 8 percent under and 12 over the peak above the imports, in MiB.

    Source: benchmarks/memory.py.
    """
    content = {"model_type": family, "vocab_size": vocabulary, "max_position_embeddings": 130, **shape}
    facts = read_model_facts(content)
    assert facts.task is not None
    overrides = {"micro_batch": batch, "gradient_checkpointing": checkpointing}
    needs = Requirements(
        task=facts.task, model=facts, adapter=adapter, effective_batch=batch, overrides=overrides
    )
    above = (choose_policy(cpu("avx2"), needs).memory.total_bytes - IMPORTS_BYTES) / 2**20
    assert 0.92 * measured <= above <= 1.12 * measured


def test_a_hidden_gpu_is_not_used() -> None:
    """An empty CUDA_VISIBLE_DEVICES hides every NVIDIA device: the plan takes the CPU and says so."""
    raw = {
        "gpus": [{"vendor": "nvidia", "name": "A", "major": 9, "minor": 0, "total_memory_bytes": 80 * GIB}],
        "env": {"CUDA_VISIBLE_DEVICES": ""},
        "cpuinfo": {"flags": "avx2"},
    }
    facts = ModelFacts(parameters=1000, layers=1, hidden_size=8, vocab_size=16, intermediate_size=16)
    policy = choose_policy(profile_from_recorded(raw), Requirements(task="masked", model=facts))
    assert policy.device.value == "cpu"
    assert "hidden by CUDA_VISIBLE_DEVICES" in policy.device.reason


@pytest.mark.parametrize(
    ("field", "found", "suggestion"),
    [
        ("effective_batch", 0, 1),
        ("source_length", 1.5, 1),
        ("task", "seqseq", "seq2seq"),
        ("distillation", "chunk", "chunked"),
        ("adapter", "loara", "lora"),
    ],
)
def test_requirements_refuse_what_no_machine_can_serve(
    field: str, found: object, suggestion: object, sized: Callable[[str], ModelFacts]
) -> None:
    """A batch of zero or a task that does not exist is a mistake of the caller."""
    arguments: dict[str, object] = {"task": "causal", "model": sized("0.1b"), field: found}
    with pytest.raises(ArgumentError) as caught:
        Requirements(**arguments)  # type: ignore[arg-type]  # the mistake under test
    assert isinstance(caught.value, ValueError)
    assert (caught.value.field, caught.value.found, caught.value.suggestion) == (field, found, suggestion)


def test_a_policy_refuses_a_field_that_it_does_not_have(sized: Callable[[str], ModelFacts]) -> None:
    """``choice`` and ``value`` raise a ``KeyError`` that names the nearest field."""
    policy = choose_policy(cpu("avx2"), Requirements(task="causal", model=sized("0.1b")))
    for read in (policy.choice, policy.value):
        with pytest.raises(KeyError) as caught:
            read("thread")
        error = caught.value
        assert isinstance(error, UnknownFieldError)
        assert (error.field, error.found, error.suggestion) == ("name", "thread", "threads")
        assert str(error).startswith("'thread' is not a field")


@pytest.mark.parametrize(
    ("asked", "overrides", "gib", "expected"),
    [
        (1, {}, 64, (1, 4)),
        (2, {}, 64, (2, 2)),
        (9, {}, 64, (4, 1)),
        (2, {"threads": 4}, 64, (1, 4)),
        (1, {"parallel_stages": 2}, 64, (2, 2)),
        (4, {}, 40, (3, 1)),
    ],
)
def test_stages_that_need_not_wait_share_the_cores_of_a_cpu(
    asked: int,
    overrides: dict[str, object],
    gib: float,
    expected: tuple[int, int],
    sized: Callable[[str], ModelFacts],
) -> None:
    """As many side by side as there are cores and as fit, each with its share of the threads."""
    wish = Requirements(
        task="seq2seq", model=sized("marian"), adapter="full", side_by_side=asked, overrides=overrides
    )
    policy = choose_policy(cpu("avx2", gib=gib), wish)
    assert (policy.parallel_stages.value, policy.threads.value) == expected


def test_stages_never_share_an_accelerator(
    recorded: Callable[[str], HardwareProfile], sized: Callable[[str], ModelFacts]
) -> None:
    """Two trainings on one device only slow each other, and the memory of one is not there for two."""
    wish = Requirements(task="seq2seq", model=sized("marian"), side_by_side=2)
    assert choose_policy(recorded("nvidia-t4-colab"), wish).parallel_stages.value == 1
