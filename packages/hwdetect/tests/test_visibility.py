"""Which devices a process sees, and in which order: the variables of the drivers in all their forms."""

import pytest

from distill_hwdetect import Accelerator, profile_from_recorded
from distill_hwdetect.visibility import visible_order

FOUR = ["GPU-aa11", "GPU-aa22", "GPU-bb33", "MIG-cc44"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", [0]),
        ("1,0", [1, 0]),
        (" 2 , 1 ", [2, 1]),
        ("", []),
        ("-1", []),
        ("none", []),
        ("NoDevFiles", []),
        ("0,-1,1", [0]),
        ("1,9,0", [1]),
        ("0,0", []),
        ("GPU-bb33", [2]),
        ("GPU-bb", [2]),
        ("GPU-aa", []),
        ("GPU-aa22,GPU-aa11", [1, 0]),
        ("GPU-zz", []),
        ("MIG-cc44", [3]),
        ("0,GPU-bb33", [0, 2]),
        (None, None),
    ],
)
def test_cuda_visible_devices(value: str | None, expected: list[int] | None) -> None:
    """Numbers and identifiers, cut short or not; the list ends at what names no device; doubles hide all."""
    environment = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert visible_order("cuda", FOUR, environment) == expected


@pytest.mark.parametrize(
    ("kind", "environment", "expected"),
    [
        ("rocm", {"HIP_VISIBLE_DEVICES": "1"}, [1]),
        ("rocm", {"CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ("rocm", {"ROCR_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1"}, [0]),
        ("xpu", {"ZE_AFFINITY_MASK": "1"}, [1]),
        ("xpu", {"ZE_AFFINITY_MASK": "0.1"}, [0]),
        ("xpu", {"ONEAPI_DEVICE_SELECTOR": "level_zero:*"}, None),
        ("xpu", {"CUDA_VISIBLE_DEVICES": ""}, None),
        ("cuda", {"HIP_VISIBLE_DEVICES": ""}, None),
        ("mps", {"CUDA_VISIBLE_DEVICES": ""}, None),
    ],
)
def test_other_vendors_have_variables_of_their_own(
    kind: str, environment: dict[str, str], expected: list[int] | None
) -> None:
    """HIP reads CUDA's name as well; what does not concern a vendor is not read."""
    assert visible_order(kind, [None, None], environment) == expected


def gpus(*names: str, env: dict[str, str], **more: object) -> tuple[Accelerator, ...]:
    """Return the accelerators of a machine with NVIDIA GPUs of these names."""
    found = [
        {"vendor": "nvidia", "name": name, "uuid": f"GPU-{name}", "major": 9, "minor": 0, **more}
        for name in names
    ]
    return profile_from_recorded({"gpus": found, "env": env}).accelerators


def test_devices_are_numbered_as_torch_numbers_them() -> None:
    """``1,0`` turns them round: cuda:0 is the second one of nvidia-smi."""
    first, second = gpus("a", "b", env={"CUDA_VISIBLE_DEVICES": "1,0"})
    assert (first.name, first.index, second.name, second.index) == ("b", 0, "a", 1)


def test_hidden_devices_come_last_with_what_hides_them() -> None:
    """They stay in the profile, so that a plan can say why they are not used."""
    first, second = gpus("a", "b", env={"CUDA_VISIBLE_DEVICES": "GPU-b"})
    assert (first.name, first.hidden_by) == ("b", None)
    assert (second.name, second.hidden_by) == ("a", "CUDA_VISIBLE_DEVICES='GPU-b'")


def test_a_process_gets_one_mig_slice() -> None:
    """The first, or the one that the variable names."""
    names = ("A100 MIG 1g.10gb", "A100 MIG 2g.20gb")
    free, hidden = gpus(*names, env={})
    assert (free.name, free.hidden_by) == (names[0], None)
    assert "one slice a process" in str(hidden.hidden_by)
    chosen, _ = gpus(*names, env={"CUDA_VISIBLE_DEVICES": f"GPU-{names[1]}"})
    assert chosen.name == names[1]


def test_gpus_that_differ_get_a_note_on_their_order() -> None:
    """CUDA counts the fastest first, nvidia-smi by bus; equal orders need no note."""
    raw = {
        "gpus": [
            {"vendor": "nvidia", "name": "A", "major": 7, "minor": 5},
            {"vendor": "nvidia", "name": "B", "major": 9, "minor": 0},
        ]
    }
    assert any("PCI_BUS_ID" in note for note in profile_from_recorded(raw).notes)
    by_bus = {**raw, "env": {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}}
    assert not any("PCI_BUS_ID" in note for note in profile_from_recorded(by_bus).notes)
