"""Every recorded machine gets its policies, and each distinct policy takes a training step here.

Here is a CPU, so a few things must be substituted; each substitution is printed. What may not be substituted
is asserted on what ran: adapter, storage and quantization, checkpointing, accumulation, the effective batch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

from distill_hwdetect import (
    Choice,
    ExecutionPolicy,
    HardwareProfile,
    ModelFacts,
    Requirements,
    UnsupportedPolicyError,
    choose_policy,
    profile_from_recorded,
    read_model_facts,
)
from tiny_models import TASKS, save_tiny, train
from workspace import ROOT

_Value = TypeVar("_Value")
EFFECTIVE_BATCH = 8
RECORDED = ROOT / "packages" / "hwdetect" / "tests" / "profiles"
# Sizes that show what a machine does with a small, a medium and a large model.
LLAMAS = {
    "0.1b": (576, 1536, 30, 9, 3),
    "1b": (2048, 8192, 16, 32, 8),
    "8b": (4096, 14336, 32, 32, 8),
}
FIELDS = (
    "device",
    "compute_dtype",
    "storage_dtype",
    "quantization",
    "adapter",
    "optimizer",
    "gradient_checkpointing",
    "attention",
    "compile",
    "micro_batch",
    "accumulation",
    "offload",
    "ipex",
)
QUANTIZED = {"nf4": "Linear4bit", "int8": "Linear8bitLt"}
OPTIMIZERS = {
    "adamw_torch": "torch.AdamW",
    "adamw_torch_fused": "torch.AdamW",
    "adamw_8bit": "bitsandbytes.AdamW",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One distinct policy of a kind of machine, and who asked for it."""

    kind: str
    family: str
    policy: ExecutionPolicy
    machines: tuple[str, ...]

    def __str__(self) -> str:
        """Short enough for a test's name."""
        shown = (
            "device",
            "compute_dtype",
            "quantization",
            "adapter",
            "micro_batch",
            "gradient_checkpointing",
        )
        return "-".join([self.kind, self.family, *(str(self.policy.value(name)) for name in shown)])


def models() -> Mapping[str, ModelFacts]:
    """Models that people bring, by name; the family is the name's first word."""
    made = {
        f"llama {size}": read_model_facts(
            {
                "model_type": "llama",
                "vocab_size": 32000,
                "hidden_size": hidden,
                "intermediate_size": inner,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "num_key_value_heads": kv,
            }
        )
        for size, (hidden, inner, layers, heads, kv) in LLAMAS.items()
    }
    return made | {family: read_model_facts({"model_type": family}) for family in ("t5", "marian", "bert")}


def requests(model: ModelFacts, family: str) -> list[Requirements]:
    """The requests to a machine: its own choice, and each adapter that a user may ask for."""
    task = TASKS[family]
    adapters = {"llama": ("auto", "qlora"), "marian": ("auto", "full")}.get(family, ("auto",))
    return [
        Requirements(task=task, model=model, effective_batch=EFFECTIVE_BATCH, adapter=adapter)  # type: ignore[arg-type]  # from tables of literals
        for adapter in adapters
    ]


def recorded() -> Mapping[str, HardwareProfile]:
    """Every recorded machine."""
    return {
        path.stem: profile_from_recorded(json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(RECORDED.glob("*.json"))
    }


def kind_of(profile: HardwareProfile) -> str:
    """The kind of a machine's first accelerator, usable or not, else cpu."""
    return profile.accelerators[0].kind if profile.accelerators else "cpu"


def planned(profile: HardwareProfile, request: Requirements) -> ExecutionPolicy | UnsupportedPolicyError:
    """The policy, or the reason why the machine refuses the request; its own choice is never refused."""
    try:
        return choose_policy(profile, request)
    except UnsupportedPolicyError as error:
        if request.adapter == "auto":
            raise
        return error


@cache
def cases(kind: str | None) -> tuple[Case, ...]:
    """The distinct policies of a kind of machine, of all kinds for None."""
    found: dict[tuple[str, ...], Case] = {}
    for machine, profile in recorded().items():
        if kind not in (None, kind_of(profile)):
            continue
        for name, model in models().items():
            family = name.partition(" ")[0]
            for request in requests(model, family):
                policy = planned(profile, request)
                if isinstance(policy, UnsupportedPolicyError):
                    continue
                key = (kind_of(profile), TASKS[family], *(str(policy.value(field)) for field in FIELDS))
                before = found.get(key)
                machines = dict.fromkeys((*(before.machines if before else ()), machine))
                first = before or Case(kind_of(profile), family, policy, ())
                found[key] = dataclasses.replace(first, machines=tuple(machines))
    return tuple(found.values())


def substituted(policy: ExecutionPolicy) -> tuple[ExecutionPolicy, list[str]]:
    """The policy as this CPU can follow it, and a line for each thing that had to change."""
    forced: dict[str, object] = {}
    if policy.device.value != "cpu":
        forced["device"] = "cpu"
    if policy.attention.value not in ("sdpa", "eager"):
        forced["attention"] = "sdpa"
    if policy.compile.value:
        forced["compile"] = False
    if policy.offload.value:
        forced["offload"] = False
    if policy.optimizer.value == "paged_adamw_8bit":
        forced["optimizer"] = "adamw_8bit"
    if policy.compute_dtype.value == "float16":
        forced["compute_dtype"] = "float32"
    changes = {
        name: Choice(value=value, rule="substituted", reason="the check runs on a CPU", source="this test")
        for name, value in forced.items()
    }
    lines = [f"{name} {policy.value(name)} -> {value}" for name, value in forced.items()]
    return dataclasses.replace(policy, **changes, workers=_here(0), threads=_here(1)), lines  # type: ignore[arg-type]  # fields by name


def _here(value: _Value) -> Choice[_Value]:
    return Choice(value=value, rule="substituted", reason="small steps", source="this test")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each distinct policy."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", cases(metafunc.config.getoption("--kind", default=None)), ids=str)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A tiny model of each family, as a folder."""
    root = tmp_path_factory.mktemp("models")
    return {family: save_tiny(family, root / family) for family in TASKS}


def test_no_recorded_machine_is_left_out(pytestconfig: pytest.Config, say: list[str]) -> None:
    """Each machine of the kind is behind at least one policy; a request that it refuses is printed."""
    kind = pytestconfig.getoption("--kind", default=None)
    machines = {name: one for name, one in recorded().items() if kind in (None, kind_of(one))}
    assert machines
    assert {name for case in cases(kind) for name in case.machines} == set(machines)
    for machine, profile in machines.items():
        for name, model in models().items():
            for request in requests(model, name.partition(" ")[0]):
                refused = planned(profile, request)
                if isinstance(refused, UnsupportedPolicyError):
                    say.append(f"{machine} refuses {request.adapter} for {name}: {refused}")


def test_policy_takes_a_training_step(
    case: Case, saved: Mapping[str, Path], tmp_path: Path, say: list[str]
) -> None:
    """Load, attach, one step: a finite loss, changed weights, and all but the substitutions as planned."""
    policy, forced = substituted(case.policy)
    say.append(f"{case} ({', '.join(case.machines)}): {'; '.join(forced) or 'nothing substituted'}")
    seen, _ = train(
        saved[case.family],
        policy,
        tmp_path,
        task=TASKS[case.family],
        steps=1,
        effective_batch=EFFECTIVE_BATCH,
    )
    micro, accumulation = policy.micro_batch.value, policy.accumulation.value
    assert seen.arguments.per_device_train_batch_size == micro
    assert seen.arguments.gradient_accumulation_steps == accumulation
    assert int(str(micro)) * int(str(accumulation)) == EFFECTIVE_BATCH
    assert seen.trainable == ({"base"} if policy.adapter.value == "full" else {"lora"})
    quantization = policy.quantization.value
    expected = {QUANTIZED[quantization]} if quantization in QUANTIZED else set()
    assert seen.layers & set(QUANTIZED.values()) == expected
    if policy.adapter.value != "full" and quantization == "none":
        assert seen.dtypes == {policy.storage_dtype.value}
    assert seen.checkpointing == policy.gradient_checkpointing.value
    assert seen.optimizer == OPTIMIZERS[policy.optimizer.value]
    assert str(seen.arguments.optim.value) == policy.optimizer.value
    assert seen.arguments.bf16 == (policy.compute_dtype.value == "bfloat16")
