"""Look at the machine this runs on."""

import os
import platform
import sys
from pathlib import Path
from typing import Literal

from distill_hwdetect.installed import installed_versions, torch_observed
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.recorded import profile_from_recorded

_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "OMP_NUM_THREADS")


def detect(*, probe: Literal["fast"] = "fast", root: str = "/") -> HardwareProfile:
    """Say what machine this is, in milliseconds, importing neither torch nor numpy.

    Args:
        probe: ``fast`` reads files and drivers; it is the only one so far.
        root: Where /proc and /sys are found; a folder that looks like a root describes another machine, and
            then
            nothing of this one (drivers, packages, environment) is mixed in.

    Returns:
        The profile. What cannot be read is None, with a note; nothing of that kind raises.

    Raises:
        ValueError: ``probe`` is another word.
    """
    if probe != "fast":
        raise ValueError(f"probe must be 'fast', found {probe!r}.")
    return profile_from_recorded(observe(root=root))


def observe(*, root: str = "/") -> dict[str, object]:
    """Return the raw observations that ``detect`` interprets and a recording holds."""
    if root != "/" or sys.platform.startswith("linux"):
        from distill_hwdetect.linux import observe_linux

        observed = observe_linux(Path(root))
        if root != "/":
            return observed
        observed["sched_affinity"] = len(os.sched_getaffinity(0))
        observed.setdefault("os_cpu_count", os.cpu_count() or 1)
    else:
        observed = _observe_elsewhere()
    observed["system"], observed["machine"] = platform.system(), platform.machine()
    observed["env"] = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    packages = installed_versions()
    observed["packages"], observed["torch"] = dict(packages), torch_observed()
    if sys.platform != "darwin":
        _add_nvidia(observed)
    return observed


def _add_nvidia(observed: dict[str, object]) -> None:
    if sys.platform.startswith("linux") and not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg"))):
        return
    from distill_hwdetect.nvml import observe_nvidia

    gpus, driver = observe_nvidia()
    others = observed.get("gpus")
    observed["gpus"] = [*gpus, *(others if isinstance(others, list) else [])]
    observed["nvml"] = driver


def _observe_elsewhere() -> dict[str, object]:
    """Return what psutil (and sysctl, on a Mac) says where there is no /proc."""
    import psutil

    memory = psutil.virtual_memory()
    observed: dict[str, object] = {
        "cpuinfo": {"model_name": platform.processor()},
        "os_cpu_count": psutil.cpu_count() or 1,
        "physical_cores": psutil.cpu_count(logical=False),
        "meminfo_kB": {"MemTotal": memory.total // 1024, "MemAvailable": memory.available // 1024},
        "swap_kB": psutil.swap_memory().total // 1024,
    }
    if sys.platform == "darwin":
        observed["sysctl"], observed["macos"] = _sysctl(), platform.mac_ver()[0]
        observed.pop("physical_cores")
    return observed


def _sysctl() -> dict[str, object]:
    import subprocess

    names = (
        "machdep.cpu.brand_string",
        "hw.memsize",
        "hw.perflevel0.physicalcpu",
        "hw.perflevel1.physicalcpu",
        "hw.optional.arm.FEAT_BF16",
    )
    found: dict[str, object] = {}
    for name in names:
        answer = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False)
        text = answer.stdout.strip()
        if answer.returncode == 0 and text:
            found[name] = int(text) if text.isdigit() else text
    return found
