"""From raw observations to a profile: one interpreter for this machine and for recorded ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from distill_hwdetect.accelerators import read_accelerators
from distill_hwdetect.errors import ProfileError
from distill_hwdetect.observations import RawObservations
from distill_hwdetect.profile import FLAGS_READ, CpuFacts, HardwareProfile, MemoryFacts, TorchFacts
from distill_hwdetect.values import Raw, mapping, number, text

# cgroup v1 writes "no limit" as 2**63 rounded down to a page, whatever the page's size.
NO_LIMIT_BYTES = 2**60


def profile_from_recorded(raw: Mapping[str, object]) -> HardwareProfile:
    """Return the profile of a machine that was recorded.

    Args:
        raw: What ``distill-hwdetect record`` wrote (with the observations under ``raw``), the observations
            alone, or the older form that ``RawObservations.from_dict`` describes.

    Returns:
        The profile. Its notes name what the recording does not hold.

    Raises:
        ProfileError: ``raw`` holds no observations, or a value has the wrong type.

    Example:
        >>> from distill_hwdetect import profile_from_recorded
        >>> gpu = {"vendor": "nvidia", "name": "Tesla T4", "major": 7, "minor": 5}
        >>> machine = profile_from_recorded({"gpus": [gpu], "cpuinfo": {"flags": "avx2"}})
        >>> machine.accelerators[0].capability, machine.cpu.flags
        ((7, 5), ('avx2',))
    """
    return interpret(RawObservations.from_dict(raw))


def interpret(raw: RawObservations) -> HardwareProfile:
    """Interpret observations, of this machine or of another.

    Raises:
        ProfileError: A value inside has the wrong type.
    """
    try:
        return _interpret(raw)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"This recorded machine cannot be read: {error}.") from error


def _interpret(raw: RawObservations) -> HardwareProfile:
    notes = [str(note) for note in raw.notes or ()]
    levels = _levels(raw)
    cpu = _cpu(raw, levels, notes)
    memory = _memory(raw, levels, notes)
    environment = {str(name): str(value) for name, value in (raw.env or {}).items()}
    if "microsoft" in (raw.proc_version or "").lower():
        environment["wsl"] = "2"
    if raw.macos is not None:
        environment["macos"] = raw.macos
    if raw.container:
        environment["container"] = raw.container
    packages, disk = raw.packages, mapping(raw.disk)
    return HardwareProfile(
        system=raw.system or ("Darwin" if raw.sysctl else "Linux"),
        cpu=cpu,
        memory=memory,
        accelerators=read_accelerators(raw, memory, environment, notes),
        torch=_torch(mapping(raw.torch)),
        packages=None if packages is None else {str(key): str(value) for key, value in packages.items()},
        environment=environment,
        disk_total_bytes=number(disk, "total_bytes"),
        disk_free_bytes=number(disk, "free_bytes"),
        notes=tuple(notes),
    )


def _levels(raw: RawObservations) -> list[Raw]:
    """Return the cgroups from the process up to the root."""
    found = mapping(raw.cgroup).get("levels")
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [level for level in found if isinstance(level, Mapping)]


def _cpu(raw: RawObservations, levels: list[Raw], notes: list[str]) -> CpuFacts:
    info, sysctl = mapping(raw.cpuinfo), mapping(raw.sysctl)
    # ARM's cpuinfo has "Features" where x86 has "flags".
    words = set(str(info.get("flags") or info.get("Features") or "").split()) | _mac_flags(sysctl)
    if not words:
        notes.append("The processor's instruction set was not read; float32 without vector units is assumed.")
    performance = number(sysctl, "hw.perflevel0.physicalcpu")
    physical = raw.physical_cores or performance or number(sysctl, "hw.physicalcpu")
    logical = raw.os_cpu_count
    if logical is None and performance is not None:
        logical = performance + (number(sysctl, "hw.perflevel1.physicalcpu") or 0)
    if logical is None:
        notes.append("The number of CPUs was not read; one is assumed.")
        logical = 1
    usable = min([logical, raw.sched_affinity or logical, *_quotas(levels)])
    if usable < logical:
        notes.append(f"{usable} of {logical} CPUs are usable (affinity or cgroup quota).")
    caches = {str(name): size for name in mapping(raw.caches) if (size := number(raw.caches or {}, name))}
    return CpuFacts(
        machine=raw.machine or ("arm64" if "asimd" in _mac_flags(sysctl) else ""),
        vendor=text(info.get("vendor_id")),
        name=text(info.get("model_name") or sysctl.get("machdep.cpu.brand_string")),
        logical_cores=logical,
        physical_cores=physical,
        usable_cores=max(1, usable),
        flags=tuple(sorted(words & set(FLAGS_READ))),
        numa_nodes=raw.numa_nodes,
        caches=caches or None,
    )


def _mac_flags(sysctl: Raw) -> set[str]:
    """Return the flags of a Mac's processor by the names that Linux gives them."""
    names = {
        "hw.optional.arm.FEAT_BF16": "bf16",
        "hw.optional.arm.FEAT_I8MM": "i8mm",
        "hw.optional.avx2_0": "avx2",
        "hw.optional.avx512f": "avx512f",
    }
    found = {flag for name, flag in names.items() if number(sysctl, name)}
    return found | ({"asimd"} if "Apple" in str(sysctl.get("machdep.cpu.brand_string", "")) else set())


def _quotas(levels: list[Raw]) -> list[int]:
    """Return the CPUs that each cgroup grants, rounded up: 1.5 CPUs keep two threads busy."""
    granted = []
    for level in levels:
        quota, period = number(level, "cpu_cfs_quota_us"), number(level, "cpu_cfs_period_us") or 100_000
        words = str(level.get("cpu_max", "")).split()
        if len(words) == 2 and words[0].isdigit():
            quota, period = int(words[0]), int(words[1])
        if quota is not None and quota > 0 and period > 0:
            granted.append(max(1, math.ceil(quota / period)))
    return granted


def _memory(raw: RawObservations, levels: list[Raw], notes: list[str]) -> MemoryFacts:
    kilobytes = mapping(raw.meminfo_kB)
    total, available = number(kilobytes, "MemTotal"), number(kilobytes, "MemAvailable")
    host = total * 1024 if total is not None else number(mapping(raw.sysctl), "hw.memsize")
    if host is None:
        notes.append("Main memory was not read.")
        return MemoryFacts(total_bytes=0, available_bytes=0)
    if available is None:
        notes.append("Available memory was not read; all of it is assumed.")
    free = host if available is None else available * 1024
    limit: int | None = None
    for level in levels:
        bound = _limit(level)
        if bound is None or bound >= host:
            continue
        limit = bound if limit is None else min(limit, bound)
        used = number(level, "memory_current") or number(level, "memory_usage_in_bytes") or 0
        cached = number(level, "memory_stat_inactive_file") or 0
        free = min(free, max(0, bound - max(0, used - cached)))
    if limit is not None:
        notes.append(f"A cgroup limits memory to {limit} bytes of {host}.")
    return MemoryFacts(
        total_bytes=host if limit is None else limit,
        available_bytes=free,
        host_bytes=host,
        limit_bytes=limit,
        swap_bytes=None if raw.swap_kB is None else raw.swap_kB * 1024,
    )


def _limit(level: Raw) -> int | None:
    found = [number(level, name) for name in ("memory_max", "memory_high", "memory_limit_in_bytes")]
    real = [bound for bound in found if bound is not None and 0 < bound < NO_LIMIT_BYTES]
    return min(real) if real else None


def _torch(torch: Raw) -> TorchFacts | None:
    if torch.get("installed") is False:
        return None
    version = text(torch.get("version"))
    local = (version or "").partition("+")[2]
    cuda, hip, xpu = text(torch.get("cuda")), text(torch.get("hip")), torch.get("xpu")
    if local.startswith("cu"):
        digits = "".join(sign for sign in local if sign.isdigit())
        cuda, hip, xpu = cuda or f"{digits[:-1]}.{digits[-1:]}", "", False
    elif local:
        cuda = cuda or ""
        hip = hip or (local.removeprefix("rocm") if local.startswith("rocm") else "")
        xpu = local.startswith("xpu")
    if torch.get("xpu_available") is False:
        xpu = False
    elif hip:
        cuda, xpu = "", False
    archs, available = torch.get("arch_list"), torch.get("cuda_available")
    speeds = mapping(torch.get("speeds"))
    return TorchFacts(
        version=version,
        cuda=cuda,
        hip=hip,
        xpu=xpu if isinstance(xpu, bool) else None,
        mps=torch.get("mps") is True if torch.get("mps") is not None else None,
        arch_list=tuple(str(arch) for arch in archs) if isinstance(archs, (list, tuple)) else None,
        cuda_available=available if isinstance(available, bool) else None,
        speeds={
            str(device): {str(dtype): float(str(speed)) for dtype, speed in mapping(found).items()}
            for device, found in speeds.items()
        }
        or None,
    )
