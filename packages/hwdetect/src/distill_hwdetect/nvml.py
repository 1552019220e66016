"""NVIDIA devices through the driver's own library, by ctypes: no torch, no package."""

import ctypes
import sys

_UUID_BYTES = 96
_MIG_ENABLED = 1


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def observe_nvidia() -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return raw observations of each NVIDIA device, and of the driver; both empty without one.

    Memory that the driver does not report (unified memory: "not supported") is left out, and such a device is
    marked as integrated.
    """
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        if library.nvmlInit_v2() != 0:
            return [], {}
    except (OSError, AttributeError):
        return [], {}
    try:
        return _devices(library), _driver(library)
    except AttributeError:
        return [], {}
    finally:
        library.nvmlShutdown()


def _driver(library: ctypes.CDLL) -> dict[str, object]:
    found: dict[str, object] = {}
    text = ctypes.create_string_buffer(_UUID_BYTES)
    if library.nvmlSystemGetDriverVersion(text, _UUID_BYTES) == 0:
        found["driver"] = text.value.decode()
    version = ctypes.c_int()
    if library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version)) == 0:
        found["cuda"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return found


def _devices(library: ctypes.CDLL) -> list[dict[str, object]]:
    """Return each device; one that is cut up by MIG is replaced by its slices, which alone can be used."""
    number = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(number)) != 0:
        return []
    found = []
    for index in range(number.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
            continue
        device = _device(library, handle)
        slices = [_device(library, each) for each in _slices(library, handle)]
        # A slice has its own name, identifier and memory, and its parent's capability.
        found += [{**device, **each, "mig": 1} for each in slices] or [device]
    return found


def _slices(library: ctypes.CDLL, parent: ctypes.c_void_p) -> list[ctypes.c_void_p]:
    current, pending, most = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint()
    if not hasattr(library, "nvmlDeviceGetMigMode"):
        return []  # a driver older than MIG
    if library.nvmlDeviceGetMigMode(parent, ctypes.byref(current), ctypes.byref(pending)) != 0:
        return []
    if current.value != _MIG_ENABLED:
        return []
    if library.nvmlDeviceGetMaxMigDeviceCount(parent, ctypes.byref(most)) != 0:
        return []
    found = []
    for index in range(most.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetMigDeviceHandleByIndex(parent, index, ctypes.byref(handle)) == 0:
            found.append(handle)
    return found


def _device(library: ctypes.CDLL, handle: ctypes.c_void_p) -> dict[str, object]:
    device: dict[str, object] = {"vendor": "nvidia"}
    text = ctypes.create_string_buffer(_UUID_BYTES)
    if library.nvmlDeviceGetName(handle, text, _UUID_BYTES) == 0:
        device["name"] = text.value.decode()
    if library.nvmlDeviceGetUUID(handle, text, _UUID_BYTES) == 0:
        device["uuid"] = text.value.decode()
    major, minor = ctypes.c_int(), ctypes.c_int()
    if library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)) == 0:
        device["major"], device["minor"] = major.value, minor.value
    memory = _Memory()
    if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0:
        device["total_memory_bytes"], device["mem_get_info_free"] = memory.total, memory.free
    else:
        device["nvml_memory"], device["is_integrated"] = "NVML_ERROR_NOT_SUPPORTED", 1
    return device
