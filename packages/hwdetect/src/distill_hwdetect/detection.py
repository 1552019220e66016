"""Look at the machine this runs on."""

from __future__ import annotations

import os
import sys

from distill_hwdetect.installed import installed_versions, torch_observed
from distill_hwdetect.interpretation import interpret
from distill_hwdetect.observations import RawObservations
from distill_hwdetect.refusals import check_one_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from distill_hwdetect.profile import HardwareProfile

_VARIABLES = (
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "ONEAPI_DEVICE_SELECTOR",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)


def detect(*, probe: Literal["fast", "deep"] = "fast", root: str = "/") -> HardwareProfile:
    """Describe this machine in a few milliseconds, without importing torch or numpy.

    Args:
        probe: ``fast`` reads files and asks drivers. ``deep`` also imports torch, asks it what it can run,
            and times a small matrix product in each type on each device, 50 ms each.
        root: The folder in which ``/proc`` and ``/sys`` are read. A folder other than ``/`` describes another
            machine; then nothing is read from this one (its drivers, packages and environment).

    Returns:
        The profile. A fact that cannot be read is None, with a note, and does not raise.

    Raises:
        ArgumentError: ``probe`` is neither ``fast`` nor ``deep``; also a ``ValueError``.

    Example:
        >>> from distill_hwdetect import detect
        >>> machine = detect()
        >>> 1 <= machine.cpu.usable_cores <= machine.cpu.logical_cores
        True
        >>> machine.memory.available_bytes <= machine.memory.total_bytes
        True
    """
    return interpret(observe(probe=probe, root=root))


def observe(*, probe: Literal["fast", "deep"] = "fast", root: str = "/") -> RawObservations:
    """Return the raw observations that ``detect`` interprets and that a recording holds.

    Args:
        probe: ``fast`` or ``deep``, as for ``detect``.
        root: The folder in which ``/proc`` and ``/sys`` are read, as for ``detect``.

    Raises:
        ArgumentError: ``probe`` is neither ``fast`` nor ``deep``; also a ``ValueError``.

    Example:
        >>> from distill_hwdetect import RawObservations, observe
        >>> raw = observe()
        >>> RawObservations.from_dict(raw.to_dict()) == raw
        True
    """
    check_one_of("probe", probe, ("fast", "deep"))
    if root != "/" or sys.platform.startswith("linux"):
        from distill_hwdetect.linux import observe_linux

        observed = observe_linux(root)
        if root != "/":
            return RawObservations(system="Linux", **observed)  # type: ignore[arg-type]  # by field name
    else:
        from distill_hwdetect.macos_windows import observe_macos_windows

        observed = observe_macos_windows()
    observed["env"] = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    observed["packages"] = installed_versions()
    observed["torch"] = torch_observed() or {"installed": False}
    observed["disk"] = _disk()
    if sys.platform != "darwin":
        _add_nvidia(observed)
    if probe == "deep":
        from distill_hwdetect.probe import add_deep

        add_deep(observed)
    return RawObservations(**observed)  # type: ignore[arg-type]  # by field name


def _disk() -> dict[str, int] | None:
    """Return the file system of the working folder; Windows says it through another call."""
    try:
        if sys.platform == "win32":
            import shutil

            usage = shutil.disk_usage(".")
            return {"total_bytes": usage.total, "free_bytes": usage.free}
        found = os.statvfs(".")
    except OSError:
        return None
    return {"total_bytes": found.f_blocks * found.f_frsize, "free_bytes": found.f_bavail * found.f_frsize}


def _add_nvidia(observed: dict[str, object]) -> None:
    if sys.platform.startswith("linux") and not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg"))):
        return
    from distill_hwdetect.nvml import observe_nvidia

    gpus, driver = observe_nvidia()
    others = observed.get("gpus")
    observed["gpus"] = [*gpus, *(others if isinstance(others, list) else [])]
    observed["nvml"] = driver
