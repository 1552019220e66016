"""What Linux says of itself in /proc and /sys; ``root`` may be a folder that looks like one."""

from pathlib import Path

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
# Intel GPUs that torch's XPU runs: Arc A and B, Meteor, Arrow and Lunar Lake, Data Center Max and Flex.
_INTEL_XPU = ("0x4f8", "0x56", "0x64", "0x7d", "0x0bd", "0xb0", "0xe2")


def observe_linux(root: Path) -> dict[str, object]:
    """Return raw observations of processor, memory, cgroups and displays; what cannot be read is left out."""
    observed: dict[str, object] = {}
    info, logical, cores = _cpuinfo(_read(root / "proc/cpuinfo"))
    observed["cpuinfo"] = info
    if logical:
        observed["os_cpu_count"] = logical
    if cores:
        observed["physical_cores"] = cores
    memory = _meminfo(_read(root / "proc/meminfo"))
    observed["meminfo_kB"] = {name: memory[name] for name in ("MemTotal", "MemAvailable") if name in memory}
    if "SwapTotal" in memory:
        observed["swap_kB"] = memory["SwapTotal"]
    nodes = len(list((root / "sys/devices/system/node").glob("node[0-9]*")))
    if nodes:
        observed["numa_nodes"] = nodes
    observed["proc_version"] = _read(root / "proc/version").strip()
    levels = cgroup_levels(root)
    if levels:
        observed["cgroup"] = {"levels": levels}
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        observed["container"] = "yes"
    observed["pci_display"], observed["gpus"] = _display(root)
    return observed


def cgroup_levels(root: Path) -> list[dict[str, object]]:
    """Return the files of every cgroup from this process up to the root, of v1, v2 or both at once.

    Where each hierarchy is mounted is read from mountinfo: on hybrid systems neither the presence nor the
    absence of
    ``cgroup.controllers`` at ``/sys/fs/cgroup`` says which version holds the limit.
    """
    mounts = _mounts(_read(root / "proc/self/mountinfo"))
    levels: list[dict[str, object]] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
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
            levels.extend(_walk(root / point.lstrip("/"), _inside(path, mounted_root)))
            break
    return levels


def _inside(path: str, mounted_root: str) -> str:
    """Return a cgroup's path below the mount: a container may see only its own subtree."""
    if mounted_root != "/" and (path == mounted_root or path.startswith(mounted_root + "/")):
        return path.removeprefix(mounted_root).strip("/")
    return path.strip("/")


def _walk(base: Path, inside: str) -> list[dict[str, object]]:
    parts = [part for part in inside.split("/") if part not in ("", "..")]
    levels = []
    for depth in range(len(parts), -1, -1):
        folder = base.joinpath(*parts[:depth])
        level: dict[str, object] = {}
        for file, name in _LEVEL_FILES.items():
            text = _read(folder / file).strip()
            if text:
                level[name] = text
        for line in _read(folder / "memory.stat").splitlines():
            key, _, value = line.partition(" ")
            if key in ("inactive_file", "total_inactive_file"):
                level["memory_stat_inactive_file"] = value.strip()
        if level:
            levels.append(level)
    return levels


def _mounts(text: str) -> list[tuple[str, set[str], str, str]]:
    """Return ``(type, controllers, root inside the hierarchy, mount point)`` of each cgroup mount."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) >= 5 and len(tail) >= 3 and tail[0] in ("cgroup", "cgroup2"):
            found.append((tail[0], set(tail[2].split(",")), fields[3], fields[4]))
    return found


def _cpuinfo(text: str) -> tuple[dict[str, object], int, int]:
    """Return the first processor's fields, the number of processors and the number of distinct cores."""
    names = {"vendor_id": "vendor_id", "model name": "model_name", "flags": "flags", "Features": "Features"}
    info: dict[str, object] = {}
    logical, package = 0, "0"
    cores: set[tuple[str, str]] = set()
    for line in text.splitlines():
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


def _meminfo(text: str) -> dict[str, int]:
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


def _display(root: Path) -> tuple[list[list[str]], list[dict[str, object]]]:
    """Return Intel display devices by PCI identifier, and AMD devices with the target of their KFD node."""
    intel: list[list[str]] = []
    amd: list[dict[str, object]] = []
    targets = _amd_targets(root)
    for card in sorted((root / "sys/class/drm").glob("card[0-9]")):
        vendor, device = _read(card / "device/vendor").strip(), _read(card / "device/device").strip()
        if vendor == "0x8086" and device.startswith(_INTEL_XPU):
            intel.append([vendor, device])
        elif vendor == "0x1002" and targets:
            gpu: dict[str, object] = {
                "vendor": "amd",
                "name": f"AMD GPU {device[2:]}",
                "gcnArchName": targets.pop(0),
            }
            total, used = (_read(card / f"device/mem_info_vram_{name}").strip() for name in ("total", "used"))
            if total.isdigit():
                gpu["total_memory_bytes"] = int(total)
                gpu["mem_get_info_free"] = int(total) - (int(used) if used.isdigit() else 0)
            amd.append(gpu)
    return intel, amd


def _amd_targets(root: Path) -> list[str]:
    """Return the ISA of each AMD GPU node: gfx_target_version 90402 is gfx942, 110000 gfx1100."""
    targets = []
    for node in sorted(
        (root / "sys/class/kfd/kfd/topology/nodes").glob("[0-9]*"), key=lambda path: int(path.name)
    ):
        for line in _read(node / "properties").splitlines():
            name, _, value = line.partition(" ")
            if name == "gfx_target_version" and value.strip().isdigit() and int(value) > 0:
                number = int(value)
                targets.append(f"gfx{number // 10000}{number // 100 % 100:x}{number % 100:x}")
    return targets


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
