"""What NVIDIA's library says, through a stand-in for it: there is none on a machine without such a device."""
# ruff: noqa: N802  # the library's own names

import ctypes
from collections.abc import Callable

import pytest

from distill_hwdetect import HardwareProfile, RawObservations, nvml
from distill_hwdetect.interpretation import interpret

GIB = 2**30
NOT_SUPPORTED = 3


class Driver:
    """The functions of libnvidia-ml.so.1 that are called, over devices given as plain values."""

    def __init__(self, devices: list[dict[str, object]], *, mig: bool = True) -> None:
        self.devices = devices
        self.asked_to_stop = False
        if mig:
            self.nvmlDeviceGetMigMode = self._mode

    def nvmlInit_v2(self) -> int:
        """Start."""
        return 0

    def nvmlShutdown(self) -> int:
        """Stop."""
        self.asked_to_stop = True
        return 0

    def nvmlSystemGetDriverVersion(self, text: ctypes.Array[ctypes.c_char], size: int) -> int:
        """Write the driver's version."""
        text.value = b"535.129.03"
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, number: object) -> int:
        """Write 12.2 as the library does."""
        _store(number, 12020)
        return 0

    def nvmlDeviceGetCount_v2(self, number: object) -> int:
        """Count the devices."""
        _store(number, len(self.devices))
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: object) -> int:
        """A handle is a device's position plus one."""
        _store(handle, index + 1)
        return 0

    def nvmlDeviceGetName(self, handle: ctypes.c_void_p, text: ctypes.Array[ctypes.c_char], size: int) -> int:
        """Write the name."""
        text.value = str(self._at(handle)["name"]).encode()
        return 0

    def nvmlDeviceGetUUID(self, handle: ctypes.c_void_p, text: ctypes.Array[ctypes.c_char], size: int) -> int:
        """Write the identifier."""
        text.value = str(self._at(handle)["uuid"]).encode()
        return 0

    def nvmlDeviceGetCudaComputeCapability(
        self, handle: ctypes.c_void_p, major: object, minor: object
    ) -> int:
        """Write the capability; a slice has none of its own."""
        found = self._at(handle).get("capability")
        if not isinstance(found, tuple):
            return NOT_SUPPORTED
        _store(major, found[0])
        _store(minor, found[1])
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: ctypes.c_void_p, memory: object) -> int:
        """Write the memory, where there is any of its own."""
        total = self._at(handle).get("total")
        if not isinstance(total, int):
            return NOT_SUPPORTED
        target = memory._obj  # type: ignore[attr-defined]  # what byref points at
        target.total, target.free, target.used = total, total - GIB, GIB
        return 0

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: ctypes.c_void_p, number: object) -> int:
        """Seven slices at most."""
        _store(number, 7)
        return 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, parent: ctypes.c_void_p, index: int, handle: object) -> int:
        """Handles of slices are the parent's, times 100, and one more each."""
        slices = self._at(parent).get("slices", [])
        if not isinstance(slices, list) or index >= len(slices):
            return NOT_SUPPORTED
        _store(handle, int(parent.value or 0) * 100 + index + 1)
        return 0

    def _mode(self, handle: ctypes.c_void_p, current: object, pending: object) -> int:
        _store(current, 1 if "slices" in self._at(handle) else 0)
        return 0

    def _at(self, handle: ctypes.c_void_p) -> dict[str, object]:
        number = int(handle.value or 0)
        if number < 100:
            return self.devices[number - 1]
        slices = self.devices[number // 100 - 1]["slices"]
        assert isinstance(slices, list)
        found: dict[str, object] = slices[number % 100 - 1]
        return found


def _store(reference: object, value: int) -> None:
    reference._obj.value = value  # type: ignore[attr-defined]  # what byref points at


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> Callable[..., HardwareProfile]:
    """Return the profile of a machine whose NVIDIA driver knows these devices."""

    def profile(*devices: dict[str, object], mig: bool = True, **raw: object) -> HardwareProfile:
        driver = Driver(list(devices), mig=mig)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
        gpus, version = nvml.observe_nvidia()
        assert driver.asked_to_stop
        return interpret(RawObservations(gpus=gpus, nvml=version, **raw))  # type: ignore[arg-type]  # by name

    return profile


def test_a_driver_gives_name_capability_memory_and_versions(
    driven: Callable[..., HardwareProfile],
) -> None:
    """T4 and V100, each as the driver describes it."""
    t4, v100 = driven(
        {"name": "Tesla T4", "uuid": "GPU-1", "capability": (7, 5), "total": 16 * GIB},
        {"name": "Tesla V100-SXM2-16GB", "uuid": "GPU-2", "capability": (7, 0), "total": 16 * GIB},
    ).accelerators
    assert (t4.name, t4.capability, t4.uuid) == ("Tesla T4", (7, 5), "GPU-1")
    assert (t4.total_bytes, t4.free_bytes) == (16 * GIB, 15 * GIB)
    assert (t4.driver, t4.driver_cuda) == ("535.129.03", "12.2")
    assert v100.capability == (7, 0)


def test_a_partitioned_card_is_its_slices(driven: Callable[..., HardwareProfile]) -> None:
    """Name, identifier and memory are the slice's; the capability is the parent's."""
    name = "NVIDIA A100 80GB PCIe MIG 1g.10gb"
    slices = [{"name": name, "uuid": f"MIG-{n}", "total": 9 * GIB + n} for n in range(2)]
    parent = {"name": "NVIDIA A100 80GB PCIe", "uuid": "GPU-1", "capability": (8, 0), "slices": slices}
    found = driven({**parent, "total": 80 * GIB}, env={"CUDA_VISIBLE_DEVICES": "MIG-1"}).accelerators
    assert [(one.uuid, one.partition) for one in found] == [("MIG-1", True), ("MIG-0", True)]
    assert (found[0].total_bytes, found[0].capability) == (9 * GIB + 1, (8, 0))
    assert found[1].hidden_by


def test_memory_that_is_not_supported_means_shared_memory(driven: Callable[..., HardwareProfile]) -> None:
    """GB10: the host's available memory is what a plan may use."""
    (device,) = driven({"name": "NVIDIA GB10", "uuid": "GPU-1", "capability": (12, 1)}).accelerators
    assert (device.total_bytes, device.unified) == (None, True)


def test_a_driver_older_than_mig_is_read_all_the_same(driven: Callable[..., HardwareProfile]) -> None:
    """It has no function of that name."""
    (device,) = driven(
        {"name": "Tesla P4", "uuid": "GPU-1", "capability": (6, 1), "total": 8 * GIB}, mig=False
    ).accelerators
    assert device.name == "Tesla P4"


def test_no_library_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the driver has neither devices nor a version, and raises nothing."""

    def missing(name: str) -> object:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert nvml.observe_nvidia() == ([], {})
