"""The deep probe on cards that are not here: torch's answers are replaced by those recorded on such cards."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from distill_hwdetect import ModelFacts, RawObservations, Requirements, choose_policy, read_model_facts
from distill_hwdetect.interpretation import interpret
from distill_hwdetect.probe import add_deep

GIB = 2**30
KERNELS = ["sm_70", "sm_75", "sm_80", "sm_90", "sm_120"]
Patch = Callable[..., None]


@pytest.fixture
def model() -> ModelFacts:
    """A model that fits any of the cards."""
    return read_model_facts({"model_type": "gpt2"})


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Let torch say that it sees one card."""

    def replace(*, free: int, total: int, hip: str | None = None, **properties: object) -> None:
        seen = SimpleNamespace(**properties)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: seen)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free, total))
        monkeypatch.setattr(
            torch.cuda, "get_arch_list", lambda: ["sm_70", "sm_75", "sm_80", "sm_90", "sm_120"]
        )
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch, "__version__", f"2.9.1+{f'rocm{hip}' if hip else 'cu128'}")

    return replace


def observed(**raw: object) -> dict[str, object]:
    """What the fast probe left for the deep one."""
    base = {"meminfo_kB": {"MemTotal": 64 * 2**20, "MemAvailable": 60 * 2**20}, "cpuinfo": {"flags": "avx2"}}
    made: dict[str, object] = {**base, "os_cpu_count": 8, "torch": {"version": "2.9.1"}, **raw}
    add_deep(made)
    return made


@pytest.mark.parametrize(
    ("properties", "raw", "dtype", "usable"),
    [
        ({"name": "Tesla T4", "major": 7, "minor": 5, "uuid": "1"}, {}, "float16", 14 * GIB),
        ({"name": "Tesla V100-SXM2-16GB", "major": 7, "minor": 0, "uuid": "1"}, {}, "float16", 14 * GIB),
        ({"name": "NVIDIA A100 MIG 1g.10gb", "major": 8, "minor": 0, "uuid": "1"}, {}, "bfloat16", 14 * GIB),
        (
            {"name": "NVIDIA GB10", "major": 12, "minor": 1, "uuid": "1", "is_integrated": 1},
            {
                "gpus": [
                    {
                        "vendor": "nvidia",
                        "name": "NVIDIA GB10",
                        "uuid": "GPU-1",
                        "nvml_memory": "NVML_ERROR_NOT_SUPPORTED",
                        "is_integrated": 1,
                    }
                ]
            },
            "bfloat16",
            14 * GIB,
        ),
    ],
)
def test_a_card_is_planned_by_its_capability_whatever_is_bf16_supported_says(
    properties: dict[str, object],
    raw: dict[str, object],
    dtype: str,
    usable: int,
    card: Patch,
    model: ModelFacts,
) -> None:
    """T4, V100, a MIG slice, GB10 whose driver reports no memory: type and budget."""
    card(free=14 * GIB, total=16 * GIB, **properties)
    profile = interpret(RawObservations(**observed(**raw)))  # type: ignore[arg-type]  # by field name
    policy = choose_policy(profile, Requirements(task="causal", model=model))
    assert policy.device.value == "cuda:0"
    assert policy.compute_dtype.value == dtype
    assert policy.memory.budget_bytes == int(usable * 0.85)
    assert [device.name for device in profile.accelerators] == [properties["name"]]


def test_hip_looks_like_cuda_and_is_distinguished(card: Patch, model: ModelFacts) -> None:
    """(11, 0) is not the capability of an NVIDIA GPU; the target decides, without its suffix."""
    card(
        free=20 * GIB,
        total=24 * GIB,
        hip="7.2",
        name="Radeon RX 7900 XTX",
        major=11,
        minor=0,
        gcnArchName="gfx1100:xnack-",
        uuid="1",
    )
    profile = interpret(RawObservations(**observed()))  # type: ignore[arg-type]  # by field name
    (device,) = profile.accelerators
    assert (device.kind, device.target, device.capability) == ("rocm", "gfx1100", None)
    assert choose_policy(profile, Requirements(task="causal", model=model)).compute_dtype.value == "bfloat16"


def test_a_variable_that_torch_has_obeyed_is_not_obeyed_twice(card: Patch, model: ModelFacts) -> None:
    """Torch numbers the devices that the process sees: its cuda:0 is not looked up at index 1 again."""
    card(free=14 * GIB, total=16 * GIB, name="B", major=8, minor=6, uuid="1")
    profile = interpret(RawObservations(**observed(env={"CUDA_VISIBLE_DEVICES": "1"})))  # type: ignore[arg-type]
    assert choose_policy(profile, Requirements(task="causal", model=model)).device.value == "cuda:0"


def test_what_a_card_cannot_multiply_is_a_note(card: Patch) -> None:
    """There is no card: each type that fails is reported, and nothing raises."""
    card(free=14 * GIB, total=16 * GIB, name="A", major=8, minor=6, uuid="1")
    made = observed()
    notes = made["notes"]
    assert isinstance(notes, list)
    assert any("cuda:0 cannot multiply float32" in note for note in notes)


def test_a_torch_that_cannot_be_imported_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is a finding."""
    import builtins

    real = builtins.__import__

    def broken(name: str, *args: object, **kwargs: object) -> object:
        if name == "torch":
            raise OSError("libtorch.so: cannot open shared object")
        return real(name, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(builtins, "__import__", broken)
    made = observed()
    assert made["notes"] == ["torch cannot be imported: OSError: libtorch.so: cannot open shared object."]
    assert "speeds" not in str(made["torch"])
