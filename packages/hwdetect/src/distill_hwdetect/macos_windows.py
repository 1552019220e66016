"""Observations on macOS and Windows, which have no /proc: psutil, sysctl and kernel32."""

from __future__ import annotations

import platform
import sys

_SYSCTL = (
    "machdep.cpu.brand_string",
    "hw.memsize",
    "hw.physicalcpu",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
    "hw.optional.arm.FEAT_BF16",
    "hw.optional.arm.FEAT_I8MM",
    "hw.optional.avx2_0",
    "hw.optional.avx512f",
    "hw.l1dcachesize",
    "hw.l1icachesize",
    "hw.l2cachesize",
    "hw.l3cachesize",
    "iogpu.wired_limit_mb",
)
_CACHES = {"L1d": "hw.l1dcachesize", "L1i": "hw.l1icachesize", "L2": "hw.l2cachesize", "L3": "hw.l3cachesize"}
# PF_..._INSTRUCTIONS_AVAILABLE of IsProcessorFeaturePresent (winnt.h); there is none for AVX512_BF16 or AMX.
_WINDOWS_FEATURES = {19: "asimd", 40: "avx2", 41: "avx512f"}


def observe_elsewhere() -> dict[str, object]:
    """Return raw observations by way of psutil."""
    import psutil

    memory = psutil.virtual_memory()
    observed: dict[str, object] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpuinfo": {"model_name": platform.processor()},
        "os_cpu_count": psutil.cpu_count() or 1,
        "physical_cores": psutil.cpu_count(logical=False),
        "meminfo_kB": {"MemTotal": memory.total // 1024, "MemAvailable": memory.available // 1024},
        "swap_kB": psutil.swap_memory().total // 1024,
    }
    if sys.platform == "darwin":
        said = _sysctl()
        observed["sysctl"], observed["macos"] = said, platform.mac_ver()[0]
        observed["caches"] = {name: said[key] for name, key in _CACHES.items() if key in said}
        # Of an Apple chip the performance cores count, and sysctl tells them from the others.
        if "hw.perflevel0.physicalcpu" in said:
            del observed["physical_cores"]
    elif sys.platform == "win32":
        observed["cpuinfo"] = {"model_name": platform.processor(), "flags": _windows_flags()}
        observed["sched_affinity"] = len(psutil.Process().cpu_affinity())
        observed["notes"] = ["Windows does not say whether the processor computes bfloat16; no is assumed."]
    return observed


def _sysctl() -> dict[str, object]:
    """Ask once for all names; those that this Mac does not have are only complained about."""
    import subprocess

    answer = subprocess.run(["/usr/sbin/sysctl", *_SYSCTL], capture_output=True, text=True, check=False)
    found: dict[str, object] = {}
    for line in answer.stdout.splitlines():
        name, colon, value = (part.strip() for part in line.partition(":"))
        if colon and value:
            found[name] = int(value) if value.isdigit() else value
    return found


def _windows_flags() -> str:
    import ctypes

    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  # exists on Windows only, and mypy runs on Linux
    there = kernel.IsProcessorFeaturePresent
    return " ".join(flag for number, flag in _WINDOWS_FEATURES.items() if there(number))
