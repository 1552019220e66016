"""The largest workload that fits, and what was adjusted for it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from distill_hwdetect import (
    CpuFacts,
    HardwareProfile,
    MemoryFacts,
    ModelFacts,
    Requirements,
    TorchFacts,
    choose_policy,
    estimate_memory,
    read_model_facts,
    shrink_to_fit,
)

GIB = 2**30


def machine(gib: float) -> HardwareProfile:
    """Return an AVX2 machine with so much memory."""
    return HardwareProfile(
        cpu=CpuFacts(machine="x86_64", logical_cores=4, physical_cores=4, usable_cores=4, flags=("avx2",)),
        memory=MemoryFacts(total_bytes=int(gib * GIB), available_bytes=int(gib * GIB)),
        torch=TorchFacts(version="2.15.0+cpu", cuda="", hip="", xpu=False),
    )


def test_what_fits_is_not_adjusted(sized: Callable[[str], ModelFacts]) -> None:
    """With room to spare the plan is the plan."""
    needs = Requirements(task="causal", model=sized("0.1b"))
    found = shrink_to_fit(machine(64), needs)
    assert (found.adjustments, found.requirements, found.policy) == (
        (),
        needs,
        choose_policy(machine(64), needs),
    )


def test_each_adjustment_names_what_was_requested(sized: Callable[[str], ModelFacts]) -> None:
    """A model of 1.1 billion parameters on 3 GiB: quantized, recomputed, in parts, whatever it takes."""
    found = shrink_to_fit(machine(3), Requirements(task="causal", model=sized("1b"), effective_batch=16))
    assert found.policy.memory.fits
    made = {one.name: (one.requested, one.chosen) for one in found.adjustments}
    assert made["quantization"] == ("none", found.policy.quantization.value)
    assert made["micro_batch"] == (16, found.policy.micro_batch.value)
    assert all(one.reason for one in found.adjustments)


def test_texts_are_cut_to_the_longest_that_fit(sized: Callable[[str], ModelFacts]) -> None:
    """One token more would not fit."""
    needs = Requirements(
        task="causal", model=sized("0.1b"), source_length=8192, effective_batch=1, adapter="full"
    )
    found = shrink_to_fit(machine(4), needs)
    assert found.policy.memory.fits
    assert "source_length" in {one.name for one in found.adjustments}
    longer = replace(found.requirements, source_length=found.requirements.source_length + 1)
    assert not choose_policy(machine(4), longer).memory.fits


def test_full_scores_give_way_to_chunks_before_texts_are_cut(sized: Callable[[str], ModelFacts]) -> None:
    """All logits at once are the first thing that a distillation can do without."""
    model = read_model_facts({"model_type": "llama", "vocab_size": 128000, **SMALL})
    needs = Requirements(
        task="causal",
        model=model,
        teacher=model,
        distillation="full",
        source_length=1024,
        effective_batch=1,
        adapter="full",
    )
    found = shrink_to_fit(machine(4.2), needs)
    assert [one.name for one in found.adjustments][-1] == "distillation"
    assert found.requirements.source_length == 1024
    assert found.policy.memory.fits


SMALL = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "tie_word_embeddings": True,
}


def test_where_nothing_fits_the_smallest_comes_back(sized: Callable[[str], ModelFacts]) -> None:
    """The verdict is in the memory, not an exception."""
    found = shrink_to_fit(machine(1), Requirements(task="causal", model=sized("70b")))
    assert not found.policy.memory.fits
    assert found.requirements.source_length == 16


@pytest.mark.parametrize("gib", [1, 2, 4, 8])
def test_what_comes_back_uses_the_memory_that_is_there(gib: int, sized: Callable[[str], ModelFacts]) -> None:
    """More memory never gives a smaller workload."""
    needs = Requirements(task="causal", model=sized("0.1b"), source_length=4096, effective_batch=8)
    small, large = shrink_to_fit(machine(gib), needs), shrink_to_fit(machine(2 * gib), needs)
    assert large.requirements.source_length >= small.requirements.source_length


@pytest.mark.parametrize("tokens", [512, 8192])
def test_the_scores_of_a_distillation_are_counted_as_they_are_met(
    tokens: int, sized: Callable[[str], ModelFacts]
) -> None:
    """Chunked is bounded by 128 MiB, full is four copies and half of that, cached holds no teacher."""
    student, teacher = sized("0.1b"), sized("1b")
    policy = choose_policy(
        machine(512),
        Requirements(task="causal", model=student, teacher=teacher, effective_batch=1, source_length=tokens),
    )

    def estimate(how: str) -> tuple[int, int]:
        found = estimate_memory(
            student,
            policy,
            source_length=tokens,
            teacher=teacher,
            distillation=how,  # type: ignore[arg-type]  # each below
        )
        return found.logits_bytes, found.teacher_bytes

    scores, blocks = tokens * student.vocab_size * 4, 7 * 2**19
    half = min(scores, 64 * 2**20)
    assert estimate("full") == (4 * scores + half + blocks, 4 * teacher.parameters)
    assert estimate("chunked") == (2 * half + blocks, 4 * teacher.parameters)
    assert estimate("cached") == (half + blocks + tokens * 47 * 24, 0)


def test_a_cached_teacher_is_planned_by_itself(sized: Callable[[str], ModelFacts]) -> None:
    """It is not in memory beside the student, so it need not be quantized for it."""
    needs = Requirements(
        task="causal", model=sized("1b"), teacher=sized("8b"), distillation="cached", effective_batch=1
    )
    beside, alone = (
        choose_policy(machine(12), replace(needs, distillation="chunked")),
        choose_policy(machine(12), needs),
    )
    assert alone.memory.teacher_bytes == 0 < beside.memory.teacher_bytes
    assert alone.memory.total_bytes < beside.memory.total_bytes


def test_dropout_of_adapters_costs_memory(sized: Callable[[str], ModelFacts]) -> None:
    """Each adapted layer keeps its input a second time, and the mask."""
    model = sized("0.1b")
    policy = choose_policy(machine(64), Requirements(task="causal", model=model))
    with_it, without = (
        estimate_memory(model, policy, lora_dropout=rate).activations_bytes for rate in (0.05, 0.0)
    )
    assert 1.3 < with_it / without < 2.5


def test_distillation_takes_one_of_three_words(sized: Callable[[str], ModelFacts]) -> None:
    """Another is refused with what is allowed."""
    with pytest.raises(ValueError, match="'chunked', 'full' or 'cached', found 'dense'"):
        Requirements(task="causal", model=sized("0.1b"), distillation="dense")  # type: ignore[arg-type]


def test_waiting_gradients_cost_what_a_part_of_the_batch_saves(sized: Callable[[str], ModelFacts]) -> None:
    """Trained whole, one row at a time can need more than all four at once; the plan takes what fits."""
    needs = Requirements(
        task="causal", model=sized("0.1b"), source_length=16, effective_batch=4, adapter="full"
    )
    whole = choose_policy(machine(64), needs)
    apart = choose_policy(machine(64), replace(needs, overrides={"micro_batch": 1}))
    assert (whole.micro_batch.value, apart.accumulation.value) == (4, 4)
    assert whole.memory.total_bytes < apart.memory.total_bytes
    between = (whole.memory.total_bytes + apart.memory.total_bytes) / 2 / 0.85 / GIB
    assert choose_policy(machine(between), needs).micro_batch.value == 4


def test_the_peak_is_named(sized: Callable[[str], ModelFacts]) -> None:
    """Few tokens peak in the update of the weights, many in the loss; a model that is run, in its pass."""
    needs = Requirements(task="causal", model=sized("0.1b"), effective_batch=1, adapter="full")
    peaks = [
        choose_policy(machine(64), replace(needs, source_length=length, training=training)).memory.peak
        for length, training in ((16, True), (4096, True), (16, False))
    ]
    assert peaks == ["update", "loss", "forward"]


def test_the_teachers_pass_is_counted() -> None:
    """A wide teacher's own forward pass can take more than all of a small student that recomputes."""
    shape = {"model_type": "llama", "vocab_size": 512, "num_hidden_layers": 1, "num_attention_heads": 4}
    student = read_model_facts({**shape, "hidden_size": 64, "intermediate_size": 128})
    teacher = read_model_facts({**shape, "hidden_size": 4096, "intermediate_size": 16384})
    needs = Requirements(
        task="causal",
        model=student,
        teacher=teacher,
        source_length=2048,
        overrides={"gradient_checkpointing": True},
    )
    assert choose_policy(machine(64), needs).memory.peak == "teacher"
