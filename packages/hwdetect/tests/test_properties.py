"""What holds on every recorded machine: flags matter, memory never makes worse, all rules are reached."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from distill_hwdetect import (
    POLICY_FIELDS,
    Accelerator,
    HardwareProfile,
    ModelFacts,
    Requirements,
    UnsupportedPolicyError,
    choose_policy,
    profile_from_recorded,
    read_model_facts,
)
from distill_hwdetect.profile import FLAGS_READ
from distill_hwdetect.rules import FLAGS, RULES
from distill_hwdetect.tables import rules_page

PROFILES = Path(__file__).parent / "profiles"
MACHINES: Mapping[str, HardwareProfile] = {
    path.stem: profile_from_recorded(json.loads(path.read_text(encoding="utf-8")))
    for path in sorted(PROFILES.glob("*.json"))
}
ROOT = Path(__file__).parents[3]
GIB = 2**30


def requests(sized: Callable[[str], ModelFacts]) -> Iterator[Requirements]:
    """What may be asked of a machine: sizes, families, training and running, QLoRA, and a teacher."""
    for size in ("0.1b", "1b", "8b"):
        yield Requirements(task="causal", model=sized(size))
        yield Requirements(task="causal", model=sized(size), training=False)
        yield Requirements(task="causal", model=sized(size), adapter="qlora")
        yield Requirements(task="causal", model=sized(size), adapter="full", pretokenized=False)
        yield Requirements(task="causal", model=sized("0.1b"), teacher=sized(size))
    for family, task in (("t5", "seq2seq"), ("bert", "masked")):
        yield Requirements(task=task, model=sized(family))  # type: ignore[arg-type]  # a literal above


def decision(profile: HardwareProfile, request: Requirements) -> object:
    """Value and rule of every field, or the refusal."""
    try:
        policy = choose_policy(profile, request)
    except UnsupportedPolicyError as error:
        return str(error).partition(",")[0]
    return [(name, policy.value(name), policy.choice(name).rule) for name in POLICY_FIELDS]


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_turning_a_flag_over_changes_the_decision_where_the_table_says_so(
    name: str, sized: Callable[[str], ModelFacts]
) -> None:
    """And nowhere else: where it is declared to decide nothing, nothing changes."""
    profile = MACHINES[name]
    asked = [request for request in requests(sized) if request.teacher is None]
    before = [decision(profile, request) for request in asked]
    computes = choose_policy(profile, asked[0]).device.value == "cpu"
    for flag in FLAGS_READ:
        flags = tuple(sorted(set(profile.cpu.flags) ^ {flag}))
        turned = profile.replace(cpu=profile.cpu.replace(flags=flags))
        changed = any(decision(turned, request) != old for request, old in zip(asked, before, strict=True))
        assert changed == (computes and FLAGS[flag].matters(profile)), flag


def test_every_flag_that_is_read_is_in_the_table() -> None:
    """What decides something matters on a recorded machine; what decides nothing matters on none."""
    assert set(FLAGS) == set(FLAGS_READ)
    for name, flag in FLAGS.items():
        assert bool(flag.decides) == any(flag.matters(profile) for profile in MACHINES.values()), name


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("nvidia-gb10-dgx-spark", "unified"),
        ("intel-panther-lake-igpu-wsl", "unified"),
        ("nvidia-rtx3090", "hidden_by"),
        ("amd-mi300x", "hidden_by"),
    ],
)
def test_what_is_read_of_a_device_decides(name: str, field: str, sized: Callable[[str], ModelFacts]) -> None:
    """Shared memory changes the budget; a hidden device is not used."""
    profile = MACHINES[name]
    first = profile.accelerators[0]
    other: dict[str, object] = {"unified": not first.unified, "hidden_by": "CUDA_VISIBLE_DEVICES=''"}
    turned = profile.replace(accelerators=(first.replace(**{field: other[field]}), *profile.accelerators[1:]))
    request = Requirements(task="causal", model=sized("8b"))
    before, after = choose_policy(profile, request), choose_policy(turned, request)
    assert (before.device.reason, before.memory) != (after.device.reason, after.memory)


def scaled(profile: HardwareProfile, factor: float) -> HardwareProfile:
    """The same machine with memory of another size, on the device and beside it."""

    def grow(size: int | None) -> int | None:
        return None if size is None else int(size * factor)

    def device(one: Accelerator) -> Accelerator:
        return one.replace(total_bytes=grow(one.total_bytes), free_bytes=grow(one.free_bytes))

    memory = profile.memory
    return profile.replace(
        memory=memory.replace(
            total_bytes=grow(memory.total_bytes), available_bytes=grow(memory.available_bytes)
        ),
        accelerators=tuple(map(device, profile.accelerators)),
    )


LOSS = {"none": 0, "int8": 1, "nf4": 2}


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_more_memory_never_gives_a_lossier_choice(name: str, sized: Callable[[str], ModelFacts]) -> None:
    """On every machine, for student and teacher, from a sixteenth to eight times its memory."""
    for size, teacher in (("1b", None), ("8b", None), ("1b", "1b"), ("8b", "13b"), ("0.1b", "1b")):
        request = Requirements(
            task="causal", model=sized(size), teacher=None if teacher is None else sized(teacher)
        )
        before: tuple[int, int, bool] | None = None
        for factor in (2.0 ** (step / 4) for step in range(-24, 17)):
            policy = choose_policy(scaled(MACHINES[name], factor), request)
            beside = policy.teacher.quantization.value if policy.teacher else "none"
            now = (LOSS[policy.quantization.value], LOSS[beside], not policy.memory.fits)
            if before is not None:
                assert all(new <= old for new, old in zip(now, before, strict=True)), (size, teacher, factor)
            before = now


def overridden(sized: Callable[[str], ModelFacts]) -> Iterator[Requirements]:
    """Requests that reach the rules which no machine comes to by itself."""
    yield Requirements(task="causal", model=sized("1b"), overrides={"threads": 1})
    yield Requirements(task="masked", model=read_model_facts({"model_type": "fnet", **SMALL}))
    yield Requirements(task="causal", model=sized("8b"), adapter="full", effective_batch=1)
    yield Requirements(task="masked", model=read_model_facts({"model_type": "bert", **SMALL}), side_by_side=2)


SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "intermediate_size": 128}
# Rules of machines that nobody has recorded yet.
BUILT = {
    "ipex-helps": ("cpu-avx512bf16-zen4-8c", {"intel-extension-for-pytorch": "2.8.0", "torch": "2.8.0"}),
}


def test_every_rule_decides_somewhere(sized: Callable[[str], ModelFacts]) -> None:
    """A row of the table that no machine reaches is a row that nobody needs."""
    machines = [*MACHINES.values()]
    for name, packages in BUILT.values():
        profile = MACHINES[name]
        assert profile.torch is not None
        machines.append(profile.replace(packages=packages, torch=profile.torch.replace(version="2.8.0+cpu")))
    slow = MACHINES["arm-neoverse-n2-probed"]
    assert slow.torch is not None
    speeds = {"cpu": {"float32": 60.0, "bfloat16": 30.0}}
    machines.append(slow.replace(torch=slow.torch.replace(speeds=speeds)))
    seen: set[str] = set()
    for profile in machines:
        for request in (*requests(sized), *overridden(sized)):
            try:
                policy = choose_policy(profile, request)
            except UnsupportedPolicyError:
                continue
            seen |= {policy.choice(name).rule for name in POLICY_FIELDS}
            if policy.teacher is not None:
                seen |= {policy.teacher.choice(name).rule for name in POLICY_FIELDS}
    assert seen == set(RULES)


def test_the_page_of_rules_is_what_the_command_prints() -> None:
    """``distill-hwdetect rules > docs/hardware-rules.md`` brings it up to date."""
    assert (ROOT / "docs" / "hardware-rules.md").read_text(encoding="utf-8") == rules_page() + "\n"
