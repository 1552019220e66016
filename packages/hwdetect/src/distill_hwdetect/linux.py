"""What Linux says of itself in /proc and /sys; ``root`` may be a folder that looks like one."""
# ruff: noqa: PTH110, PTH118, PTH123, PTH208  # importing pathlib costs milliseconds that detection does not have

from __future__ import annotations

import os

_LEVEL_FILES = {
    "memory.max": "memory_max",
    "memory.high": "memory_high",
    "memory.current": "memory_current",
    "memory.limit_in_bytes": "memory_limit_in_bytes",
    "memory.usage_in_bytes": "memory_usage_in_bytes",
    "cpu.max": "cpu_max",
    "cpu.cfs_quota_us": "cpu_cfs_quota_us",
    "cpu.cfs_period_us": "cpu_cfs_period_us",
}
# Intel GPUs that torch's XPU runs: Arc A and B, Meteor, Arrow, Lunar and Panther Lake, Max and Flex.
_INTEL_XPU = ("0x4f8", "0x56", "0x64", "0x7d", "0x0bd", "0xbd", "0xb0", "0xe2")
# AMD chips whose GPU shares the host's memory: APUs of the Zen line and Strix.
_AMD_SHARED = (
    "gfx902",
    "gfx90c",
    "gfx1013",
    "gfx1035",
    "gfx1036",
    "gfx1103",
    "gfx1150",
    "gfx1151",
    "gfx1152",
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def observe_linux(root: str) -> dict[str, object]:
    """Return raw observations of processor, memory, cgroups and displays; what cannot be read is left out."""
    observed: dict[str, object] = {}
    if root == "/":
        system = os.uname()
        observed["system"], observed["machine"] = system.sysname, system.machine
        observed["sched_affinity"] = len(os.sched_getaffinity(0))
        observed["os_cpu_count"] = os.cpu_count() or 1
    info, logical, cores = _cpuinfo(_read(root, "proc/cpuinfo"))
    observed["cpuinfo"] = info
    if logical:
        observed["os_cpu_count"] = logical
    if cores:
        observed["physical_cores"] = cores
    memory = _meminfo(_read(root, "proc/meminfo"))
    observed["meminfo_kB"] = {name: memory[name] for name in ("MemTotal", "MemAvailable") if name in memory}
    if "SwapTotal" in memory:
        observed["swap_kB"] = memory["SwapTotal"]
    nodes = _numbered(root, "sys/devices/system/node", "node")
    if nodes:
        observed["numa_nodes"] = len(nodes)
    observed["caches"] = _caches(root)
    observed["proc_version"] = _read(root, "proc/version").strip()
    levels = cgroup_levels(root)
    if levels:
        observed["cgroup"] = {"levels": levels}
    if any(os.path.exists(os.path.join(root, name)) for name in (".dockerenv", "run/.containerenv")):
        observed["container"] = "yes"
    observed["pci_display"], observed["gpus"] = _displays(root)
    return observed


def cgroup_levels(root: str) -> list[dict[str, object]]:
    """Return the files of every cgroup from this process up to the root, of v1, v2 or both at once.

    Where each hierarchy is mounted is read from mountinfo: on hybrid systems neither the presence nor the
    absence of ``cgroup.controllers`` at ``/sys/fs/cgroup`` says which version holds the limit.
    """
    mounts = _mounts(_read(root, "proc/self/mountinfo"))
    levels: list[dict[str, object]] = []
    for line in _read(root, "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        wanted = controllers.split(",")
        if controllers and not {"memory", "cpu"} & set(wanted):
            continue
        for kind, options, mounted_root, point in mounts:
            if controllers and not (kind == "cgroup" and set(wanted) & options):
                continue
            if not controllers and kind != "cgroup2":
                continue
            levels.extend(_walk(root, point.strip("/"), _inside(path, mounted_root)))
            break
    return levels


def _inside(path: str, mounted_root: str) -> str:
    """Return a cgroup's path below the mount: a container may see only its own subtree."""
    if mounted_root != "/" and (path == mounted_root or path.startswith(mounted_root + "/")):
        return path.removeprefix(mounted_root).strip("/")
    return path.strip("/")


def _walk(root: str, base: str, inside: str) -> list[dict[str, object]]:
    parts = [part for part in inside.split("/") if part not in ("", "..")]
    levels = []
    for depth in range(len(parts), -1, -1):
        folder = "/".join([base, *parts[:depth]])
        level: dict[str, object] = {}
        for file, name in _LEVEL_FILES.items():
            content = _read(root, f"{folder}/{file}").strip()
            if content:
                level[name] = content
        for line in _read(root, f"{folder}/memory.stat").splitlines():
            key, _, value = line.partition(" ")
            if key in ("inactive_file", "total_inactive_file"):
                level["memory_stat_inactive_file"] = value.strip()
        if level:
            levels.append(level)
    return levels


def _mounts(content: str) -> list[tuple[str, set[str], str, str]]:
    """Return ``(type, controllers, root inside the hierarchy, mount point)`` of each cgroup mount."""
    found = []
    for line in content.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) >= 5 and len(tail) >= 3 and tail[0] in ("cgroup", "cgroup2"):
            found.append((tail[0], set(tail[2].split(",")), fields[3], fields[4]))
    return found


def _cpuinfo(content: str) -> tuple[dict[str, object], int, int]:
    """Return the first processor's fields, the number of processors and the number of distinct cores."""
    names = {"vendor_id": "vendor_id", "model name": "model_name", "flags": "flags", "Features": "Features"}
    info: dict[str, object] = {}
    logical, package = 0, "0"
    cores: set[tuple[str, str]] = set()
    for line in content.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor":
            logical += 1
        elif key == "physical id":
            package = value
        elif key == "core id":
            cores.add((package, value))
        elif key in names:
            info.setdefault(names[key], value)
    return info, logical, len(cores)


def _meminfo(content: str) -> dict[str, int]:
    found = {}
    for line in content.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


def _caches(root: str) -> dict[str, int]:
    """Return the bytes of the first processor's caches by name, each as large as one core sees it."""
    found = {}
    base = "sys/devices/system/cpu/cpu0/cache"
    for entry in _numbered(root, base, "index"):
        level, kind, size = (
            _read(root, f"{base}/{entry}/{name}").strip() for name in ("level", "type", "size")
        )
        amount = int(size[:-1]) * _UNITS.get(size[-1:], 0) if size[:-1].isdigit() else 0
        if level and amount:
            found["L" + level + {"Data": "d", "Instruction": "i"}.get(kind, "")] = amount
    return found


def _displays(root: str) -> tuple[list[list[str]], list[dict[str, object]]]:
    """Return Intel display devices by PCI identifier, and AMD devices with the target of their KFD node."""
    intel: list[list[str]] = []
    amd: list[dict[str, object]] = []
    targets = _amd_targets(root)
    for card in _numbered(root, "sys/class/drm", "card"):
        base = f"sys/class/drm/{card}/device"
        vendor, device = (_read(root, f"{base}/{name}").strip() for name in ("vendor", "device"))
        if vendor == "0x8086" and device.startswith(_INTEL_XPU):
            intel.append([vendor, device])
        elif vendor == "0x1002" and targets:
            place = next((at for at, (minor, _) in enumerate(targets) if _renders(root, base, minor)), 0)
            amd.append(_amd(root, base, device, targets.pop(place)[1]))
    return intel, amd


def _renders(root: str, base: str, minor: str) -> bool:
    """Whether a card has the render node that a KFD node names: orders of cards and of nodes differ."""
    return bool(minor) and os.path.exists(os.path.join(root, base, "drm", f"renderD{minor}"))


def _amd(root: str, base: str, device: str, target: str) -> dict[str, object]:
    found: dict[str, object] = {"vendor": "amd", "name": f"AMD GPU {device[2:]}", "gcnArchName": target}
    shared = target in _AMD_SHARED
    # What an APU may use is its carve-out or the pages that the driver may map, whichever is larger.
    sizes = []
    for pool in ("vram", "gtt") if shared else ("vram",):
        total, used = (_read(root, f"{base}/mem_info_{pool}_{name}").strip() for name in ("total", "used"))
        if total.isdigit():
            sizes.append((int(total), int(total) - (int(used) if used.isdigit() else 0)))
    if sizes:
        found["total_memory_bytes"], found["mem_get_info_free"] = max(sizes)
    if shared:
        found["is_integrated"] = 1
    return found


def _amd_targets(root: str) -> list[tuple[str, str]]:
    """Return render node and ISA of each AMD GPU: gfx_target_version 90402 is gfx942, 110000 gfx1100."""
    targets = []
    base = "sys/class/kfd/kfd/topology/nodes"
    for node in _numbered(root, base, ""):
        properties = dict(
            line.split(" ", maxsplit=1)
            for line in _read(root, f"{base}/{node}/properties").splitlines()
            if " " in line
        )
        version = properties.get("gfx_target_version", "").strip()
        if version.isdigit() and int(version) > 0:
            number = int(version)
            target = f"gfx{number // 10000}{number // 100 % 100:x}{number % 100:x}"
            targets.append((properties.get("drm_render_minor", "").strip(), target))
    return targets


def _numbered(root: str, folder: str, prefix: str) -> list[str]:
    """Return the entries called ``prefix`` and a number, in the order of the numbers."""
    try:
        names = os.listdir(os.path.join(root, folder))
    except OSError:
        return []
    found = [name for name in names if name.startswith(prefix) and name[len(prefix) :].isdigit()]
    return sorted(found, key=lambda name: int(name[len(prefix) :]))


def _read(root: str, name: str) -> str:
    """Return the text of a file below the root, empty where it cannot be read."""
    try:
        with open(os.path.join(root, name), "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
