"""Every recorded machine gets the policy that the decision table expects, or a line says why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_hwdetect import HardwareProfile, ModelFacts, RawObservations, Requirements, choose_policy

# Machine, a model of the size that brings out the expectation ("fit" depends on it), and what must come out:
# device, compute_dtype, quantization, adapter, optimizer, attention.
FP32_CPU = ("cpu", "float32", "none", "lora", "adamw_torch_fused", "sdpa")
BF16_CPU = ("cpu", "bfloat16", "none", "lora", "adamw_torch_fused", "sdpa")
BF16_QLORA = ("cuda:0", "bfloat16", "nf4", "qlora", "paged_adamw_8bit", "sdpa")
BF16_LORA = ("cuda:0", "bfloat16", "none", "lora", "adamw_torch_fused", "sdpa")
TABLE = {
    "cpu-avx2-zen2-2c-24g": ("1b", FP32_CPU),
    "cpu-container-512m-4cpu": (
        "distilbert",
        ("cpu", "float32", "int8", "lora", "adamw_torch_fused", "sdpa"),
    ),
    "cpu-amx-spr-4c-kvm": ("1b", BF16_CPU),
    "cpu-avx512bf16-zen4-8c": ("1b", BF16_CPU),
    "cpu-avx512-no-bf16-skylake": ("1b", FP32_CPU),
    "arm-graviton3-bf16": ("1b", FP32_CPU),
    "arm-rpi5-4c-8g": ("0.1b", FP32_CPU),
    "no-torch-metrics-only": ("1b", FP32_CPU),
    "nvidia-t4-colab": ("8b", ("cuda:0", "float16", "nf4", "qlora", "paged_adamw_8bit", "sdpa")),
    "nvidia-v100-16g": ("1b", FP32_CPU),
    "nvidia-rtx3060-12g-wsl2": ("8b", BF16_QLORA),
    "nvidia-rtx4090-x2": ("13b", BF16_QLORA),
    "nvidia-a100-mig-1g10gb": ("8b", BF16_QLORA),
    "nvidia-h100-80g": ("8b", BF16_LORA),
    "nvidia-gb10-dgx-spark": ("8b", BF16_LORA),
    "amd-rx7900xtx": ("13b", BF16_QLORA),
    "amd-mi300x": ("8b", BF16_LORA),
    "amd-strix-halo-gfx1151-110g": ("8b", BF16_LORA),
    "amd-strix-halo-gfx1151-12g": ("1b", BF16_LORA),
    "intel-arc-a770-x2": ("8b", ("xpu:0", "bfloat16", "nf4", "qlora", "adamw_8bit", "sdpa")),
    "intel-core-igpu-no-xpu-torch": ("1b", FP32_CPU),
    "apple-m1-8g": ("1b", ("mps", "float32", "none", "lora", "adamw_torch", "sdpa")),
    "windows-cuda-driver-too-old": ("1b", FP32_CPU),
}
# Where the words of the recorded expectation and ours differ, and why.
DIFFERENCES = {
    (
        "arm-graviton3-bf16",
        "compute_dtype",
    ): "training: float32 until a probe shows a gain, as the expectation says",
    (
        "arm-rpi5-4c-8g",
        "optimizer",
    ): "expected to run models only; whoever trains there gets the CPU's optimizer",
    (
        "nvidia-v100-16g",
        "compute_dtype",
    ): "float16 'with an older torch'; with the installed one the CPU computes",
    ("nvidia-v100-16g", "optimizer"): "the CPU's, since the CPU it is",
    ("nvidia-rtx4090-x2", "optimizer"): "QLoRA takes the paged one, which is the expectation's second half",
}
FIELDS = ("device", "compute_dtype", "quantization", "adapter", "optimizer", "attention")
PROFILES = Path(__file__).parent / "profiles"
# Machines added later carry the size of the model and the exact policy themselves: written from the
# decision table, before the rules ran.
RECORDINGS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in PROFILES.glob("*.json")}
LATER = sorted(set(RECORDINGS) - set(TABLE))


@pytest.mark.parametrize("name", LATER)
def test_policy_is_the_one_written_from_the_decision_table(
    name: str, recorded: Callable[[str], HardwareProfile], sized: Callable[[str], ModelFacts]
) -> None:
    """A machine of a public report gets exactly the policy that stands beside it."""
    expect = RECORDINGS[name]["expect"]
    model = sized(expect["model"])
    policy = choose_policy(recorded(name), Requirements(task="causal", model=model, effective_batch=4))
    expected = {"attention": expect["attn"], **{field: expect[field] for field in FIELDS[:-1]}}
    assert {field: policy.value(field) for field in FIELDS} == expected


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_every_machine_names_its_report_and_holds_the_whole_schema(name: str) -> None:
    """Where values come from, and every field of the observations: null where nothing is known."""
    recording = RECORDINGS[name]
    assert recording["provenance"] in ("recorded", "partly", "composed")
    assert recording["sources"]
    assert recording["recorded_fields"]
    assert set(recording["raw"]) == {"schema", *RawObservations.fields()}


GIVEN = json.loads((Path(__file__).parent / "given-profiles.json").read_text(encoding="utf-8"))["profiles"]


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: given["id"])
def test_a_given_object_reads_as_it_stands(given: dict[str, Any]) -> None:
    """The looser form of the first 23 and their conversion are the same observations."""
    loose = RawObservations.from_dict(given["raw"])
    assert loose == RawObservations.from_dict(RECORDINGS[given["id"]])
    assert RawObservations.from_dict(loose.to_dict()) == loose


@pytest.mark.parametrize("name", sorted(TABLE))
def test_policy_is_the_tables(
    name: str, recorded: Callable[[str], HardwareProfile], sized: Callable[[str], ModelFacts]
) -> None:
    """Training a model on a recorded machine takes exactly the row's device, types, adapter and optimizer."""
    size, expected = TABLE[name]
    model = sized(size)
    policy = choose_policy(
        recorded(name), Requirements(task=model.task or "causal", model=model, effective_batch=4)
    )
    assert tuple(policy.value(field) for field in FIELDS) == expected


@pytest.mark.parametrize("name", sorted(TABLE))
def test_policy_agrees_with_the_recorded_expectation(name: str) -> None:
    """Device, compute type, optimizer and attention equal ``expect``, or ``DIFFERENCES`` says why not."""
    expect = json.loads((PROFILES / f"{name}.json").read_text(encoding="utf-8"))["expect"]
    row = dict(zip(FIELDS, TABLE[name][1], strict=True))
    words = {
        "device": "device",
        "compute_dtype": "compute_dtype",
        "optimizer": "optimizer",
        "attention": "attn",
    }
    for field, key in words.items():
        # An expectation may add a remark: "bfloat16 (probe)".
        agrees = str(expect[key]).split(" ")[0] == row[field]
        assert agrees != ((name, field) in DIFFERENCES), (name, field, expect[key], row[field])


def test_every_recorded_machine_is_in_the_table() -> None:
    """No recorded machine is skipped; the given ones are those of the table."""
    assert {given["id"] for given in GIVEN} == set(TABLE)
    assert len(RECORDINGS) >= 40


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_threads_and_memory_match_what_was_recorded(
    name: str, recorded: Callable[[str], HardwareProfile]
) -> None:
    """Where a recording names threads or usable memory, detection comes to the same."""
    expect = json.loads((PROFILES / f"{name}.json").read_text(encoding="utf-8"))["expect"]
    profile = recorded(name)
    tiny = Requirements(
        task="masked",
        model=ModelFacts(parameters=1000, layers=1, hidden_size=8, vocab_size=16, intermediate_size=16),
    )
    policy = choose_policy(profile, tiny)
    if expect["torch_threads"] is not None:
        assert policy.threads.value == expect["torch_threads"]
    usable = expect["usable_memory_bytes"]
    if usable is not None:
        budget = policy.memory.budget_bytes
        assert budget is not None
        # Some recordings name what is free, some 0.85 of it.
        assert abs(budget - usable) < 2 or abs(budget - 0.85 * usable) < 2


@pytest.mark.parametrize("name", ["nvidia-t4-colab"])
@pytest.mark.parametrize("family", ["t5", "mt5"])
def test_t5_is_never_computed_in_float16(
    name: str, family: str, recorded: Callable[[str], HardwareProfile], sized: Callable[[str], ModelFacts]
) -> None:
    """T5 overflows float16, so a card without bfloat16 computes it in float32, and says so."""
    policy = choose_policy(recorded(name), Requirements(task="seq2seq", model=sized(family)))
    assert policy.compute_dtype.value == "float32"
    assert "overflows" in policy.compute_dtype.reason


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("windows-cuda-driver-too-old", "update the driver"),
        ("nvidia-v100-16g", "no kernels"),
        ("intel-core-igpu-no-xpu-torch", "xpu wheel"),
    ],
)
def test_a_device_that_cannot_be_used_is_explained_with_its_remedy(
    name: str, words: str, recorded: Callable[[str], HardwareProfile], sized: Callable[[str], ModelFacts]
) -> None:
    """Falling back to the CPU is never silent."""
    policy = choose_policy(recorded(name), Requirements(task="causal", model=sized("0.1b")))
    assert policy.device.value == "cpu"
    assert words in policy.device.reason
    assert policy.device.rejected


def test_a_mig_slice_is_budgeted_as_a_slice(recorded: Callable[[str], HardwareProfile]) -> None:
    """The slice's memory counts, not its parent's 80 GB."""
    (device,) = recorded("nvidia-a100-mig-1g10gb").accelerators
    assert device.partition
    assert device.total_bytes == 10200547328


def test_amd_suffixes_are_stripped_and_never_read_as_nvidia_capability(
    recorded: Callable[[str], HardwareProfile],
) -> None:
    """(9, 4) on AMD is not a Hopper."""
    (device,) = recorded("amd-mi300x").accelerators
    assert (device.kind, device.target, device.capability) == ("rocm", "gfx942", None)
