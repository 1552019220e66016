"""From raw observations to a profile: one interpreter for this machine and for recorded ones."""

import math
import re
from collections.abc import Mapping, Sequence

from distill_hwdetect.errors import ProfileError
from distill_hwdetect.profile import (
    FLAGS_READ,
    Accelerator,
    CpuFacts,
    HardwareProfile,
    Kind,
    MemoryFacts,
    TorchFacts,
)

Raw = Mapping[str, object]

# cgroup v1 writes "no limit" as 2**63 rounded down to a page, whatever the page's size.
NO_LIMIT_BYTES = 2**60
_KINDS: Mapping[str, Kind] = {"nvidia": "cuda", "amd": "rocm", "intel": "xpu", "apple": "mps"}


def profile_from_recorded(raw: Raw) -> HardwareProfile:
    """Interpret raw observations.

    Args:
        raw: What the files, drivers and packages of a machine said: ``cpuinfo``, ``meminfo_kB``, ``cgroup``,
            ``os_cpu_count``, ``sched_affinity``, ``gpus``, ``nvml``, ``torch`` (null: not installed;
            absent: not
            recorded), ``packages``, ``env``, ``sysctl``, ``macos``...; what was not observed may be
            missing. A whole
            recording, ``{"raw": {...}, ...}``, is taken too.

    Returns:
        The profile; what is missing is named in its notes.

    Raises:
        ProfileError: ``raw`` is no such mapping, or a value has the wrong type.
    """
    inner = raw.get("raw")
    if isinstance(inner, Mapping):
        raw = inner
    if not {"cpuinfo", "gpus", "meminfo_kB", "sysctl", "pci_display"} & set(raw):
        raise ProfileError(
            "A recorded machine holds cpuinfo, meminfo_kB, gpus or "
            f"sysctl; found {', '.join(sorted(raw)) or 'nothing'}."
        )
    try:
        return _interpret(raw)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise ProfileError(f"This recorded machine cannot be read: {error}.") from error


def _interpret(raw: Raw) -> HardwareProfile:
    notes = [str(note) for note in _items(raw, "notes")]
    levels = _levels(raw)
    cpu = _cpu(raw, levels, notes)
    memory = _memory(raw, levels, notes)
    environment = {str(name): str(value) for name, value in _map(raw, "env").items()}
    if "microsoft" in str(raw.get("proc_version", "")).lower():
        environment["wsl"] = "2"
    if "macos" in raw:
        environment["macos"] = str(raw["macos"])
    if raw.get("container"):
        environment["container"] = str(raw["container"])
    packages = raw.get("packages")
    return HardwareProfile(
        system=str(raw.get("system") or ("Darwin" if "sysctl" in raw else "Linux")),
        cpu=cpu,
        memory=memory,
        accelerators=_accelerators(raw),
        torch=_torch(raw),
        packages=None if packages is None else {str(k): str(v) for k, v in _map(raw, "packages").items()},
        environment=environment,
        notes=tuple(notes),
    )


def _map(raw: Raw, name: str) -> Raw:
    found = raw.get(name)
    return found if isinstance(found, Mapping) else {}


def _items(raw: Raw, name: str) -> Sequence[object]:
    found = raw.get(name)
    return found if isinstance(found, Sequence) and not isinstance(found, str) else ()


def _number(raw: Raw, name: str) -> int | None:
    found = raw.get(name)
    if isinstance(found, str):
        found = int(found) if found.lstrip("-").isdigit() else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _levels(raw: Raw) -> list[Raw]:
    """Return the cgroups from the process up to the root; older recordings hold one, without a list."""
    group = _map(raw, "cgroup")
    levels = [level for level in _items(group, "levels") if isinstance(level, Mapping)]
    return levels or ([group] if group else [])


def _cpu(raw: Raw, levels: list[Raw], notes: list[str]) -> CpuFacts:
    info, sysctl = _map(raw, "cpuinfo"), _map(raw, "sysctl")
    # ARM's cpuinfo has "Features" where x86 has "flags".
    words = set(str(info.get("flags") or info.get("Features") or "").split())
    if sysctl:
        words |= {"asimd"} | ({"bf16"} if _number(sysctl, "hw.optional.arm.FEAT_BF16") else set())
    if not words:
        notes.append("The processor's instruction set was not read; float32 without vector units is assumed.")
    performance = _number(sysctl, "hw.perflevel0.physicalcpu")
    physical = _number(raw, "physical_cores") or performance
    logical = _number(raw, "os_cpu_count")
    if logical is None and performance is not None:
        logical = performance + (_number(sysctl, "hw.perflevel1.physicalcpu") or 0)
    if logical is None:
        notes.append("The number of CPUs was not read; one is assumed.")
        logical = 1
    usable = min([logical, _number(raw, "sched_affinity") or logical, *_quotas(levels)])
    if usable < logical:
        notes.append(f"{usable} of {logical} CPUs are usable (affinity or cgroup quota).")
    return CpuFacts(
        machine=str(raw.get("machine") or ("arm64" if sysctl else "")),
        vendor=_text(info.get("vendor_id")),
        name=_text(info.get("model_name") or sysctl.get("machdep.cpu.brand_string")),
        logical_cores=logical,
        physical_cores=physical,
        usable_cores=max(1, usable),
        flags=tuple(sorted(words & set(FLAGS_READ))),
        numa_nodes=_number(raw, "numa_nodes"),
    )


def _quotas(levels: list[Raw]) -> list[int]:
    """Return the CPUs that each cgroup grants, rounded up: 1.5 CPUs keep two threads busy."""
    granted = []
    for level in levels:
        quota, period = _number(level, "cpu_cfs_quota_us"), _number(level, "cpu_cfs_period_us") or 100_000
        words = str(level.get("cpu_max", "")).split()
        if len(words) == 2 and words[0].isdigit():
            quota, period = int(words[0]), int(words[1])
        if quota is not None and quota > 0 and period > 0:
            granted.append(max(1, math.ceil(quota / period)))
    return granted


def _memory(raw: Raw, levels: list[Raw], notes: list[str]) -> MemoryFacts:
    kilobytes, sysctl = _map(raw, "meminfo_kB"), _map(raw, "sysctl")
    total, available = _number(kilobytes, "MemTotal"), _number(kilobytes, "MemAvailable")
    host = total * 1024 if total is not None else _number(sysctl, "hw.memsize")
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
        used = _number(level, "memory_current") or _number(level, "memory_usage_in_bytes") or 0
        cached = _number(level, "memory_stat_inactive_file") or 0
        free = min(free, max(0, bound - max(0, used - cached)))
    if limit is not None:
        notes.append(f"A cgroup limits memory to {limit} bytes of {host}.")
    swap = _number(raw, "swap_kB")
    return MemoryFacts(
        total_bytes=host if limit is None else limit,
        available_bytes=free,
        host_bytes=host,
        limit_bytes=limit,
        swap_bytes=None if swap is None else swap * 1024,
    )


def _limit(level: Raw) -> int | None:
    found = [_number(level, name) for name in ("memory_max", "memory_high", "memory_limit_in_bytes")]
    real = [bound for bound in found if bound is not None and 0 < bound < NO_LIMIT_BYTES]
    return min(real) if real else None


def _accelerators(raw: Raw) -> tuple[Accelerator, ...]:
    found: list[Accelerator] = []
    nvml = _map(raw, "nvml")
    for gpu in _items(raw, "gpus"):
        if not isinstance(gpu, Mapping):
            raise ProfileError(f"Each of gpus must be an object, found {gpu!r}.")
        vendor = str(gpu.get("vendor", ""))
        if vendor not in _KINDS:
            raise ProfileError(f"A GPU's vendor must be one of {', '.join(_KINDS)}, found {vendor!r}.")
        index = sum(1 for other in found if other.kind == _KINDS[vendor])
        found.append(_accelerator(gpu, _KINDS[vendor], index, nvml))
    for entry in _items(raw, "pci_display"):
        vendor, device = (str(word) for word in entry) if isinstance(entry, Sequence) else ("", "")
        if vendor == "0x8086" and not any(other.kind == "xpu" for other in found):
            name = f"Intel GPU {vendor[2:]}:{device[2:]}"
            found.append(Accelerator(kind="xpu", name=name, unified=True))
    sysctl = _map(raw, "sysctl")
    if "Apple" in str(sysctl.get("machdep.cpu.brand_string", "")):
        budget = _number(_map(raw, "torch"), "recommended_max_memory") or _number(sysctl, "hw.memsize")
        name = str(sysctl["machdep.cpu.brand_string"])
        found.append(Accelerator(kind="mps", name=name, total_bytes=budget, free_bytes=budget, unified=True))
    return tuple(found)


def _accelerator(gpu: Raw, kind: Kind, index: int, nvml: Raw) -> Accelerator:
    major, minor = _number(gpu, "major"), _number(gpu, "minor")
    name = str(gpu.get("name", ""))
    capability = (major, minor) if kind == "cuda" and major is not None and minor is not None else None
    target = str(gpu["gcnArchName"]).split(":")[0] if gpu.get("gcnArchName") else None
    return Accelerator(
        kind=kind,
        index=index,
        name=name,
        capability=capability,
        target=target,
        total_bytes=_number(gpu, "total_memory_bytes"),
        free_bytes=_number(gpu, "mem_get_info_free"),
        uuid=_text(gpu.get("uuid")),
        driver=_text(nvml.get("driver")) if kind == "cuda" else None,
        driver_cuda=_text(nvml.get("cuda")) if kind == "cuda" else None,
        unified=bool(gpu.get("is_integrated")),
        partition=" MIG " in name or bool(gpu.get("mig")),
    )


def _torch(raw: Raw) -> TorchFacts | None:
    if "torch" in raw and raw["torch"] is None:
        return None
    torch = _map(raw, "torch")
    version = _text(torch.get("version"))
    local = (version or "").partition("+")[2]
    cuda, hip, xpu = _text(torch.get("cuda")), _text(torch.get("hip")), torch.get("xpu")
    if local.startswith("cu"):
        digits = re.sub(r"\D", "", local)
        cuda, hip, xpu = cuda or f"{digits[:-1]}.{digits[-1:]}", "", False
    elif local:
        cuda = cuda or ""
        hip = hip or (local.removeprefix("rocm") if local.startswith("rocm") else "")
        xpu = local.startswith("xpu")
    if torch.get("xpu_available") is False:
        xpu = False
    elif hip:
        cuda, xpu = "", False
    archs = torch.get("arch_list")
    available = torch.get("cuda_available")
    return TorchFacts(
        version=version,
        cuda=cuda,
        hip=hip,
        xpu=xpu if isinstance(xpu, bool) else None,
        mps=torch.get("mps") is True if "mps" in torch else None,
        arch_list=tuple(str(arch) for arch in archs) if isinstance(archs, list) else None,
        cuda_available=available if isinstance(available, bool) else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
