"""Raw observations of a machine, not yet interpreted: one schema for this machine and for recorded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distill_hwdetect.errors import ProfileError
from distill_hwdetect.records import Record

RAW_SCHEMA = "raw/1"
# One of these must be there, or nothing was observed.
_TELLING = frozenset({"cpuinfo", "gpus", "meminfo_kB", "sysctl", "pci_display"})
_MAPPINGS = (
    "cpuinfo",
    "caches",
    "meminfo_kB",
    "disk",
    "cgroup",
    "nvml",
    "sysctl",
    "env",
    "torch",
    "packages",
)
_LISTS = ("gpus", "pci_display", "notes")
_NUMBERS = ("os_cpu_count", "physical_cores", "sched_affinity", "numa_nodes", "swap_kB")


class RawObservations(Record):
    """Raw observations; None if a machine did not report a value or a recording does not hold it.

    Args:
        system: ``Linux``, ``Darwin`` or ``Windows``.
        machine: Architecture, ``x86_64``.
        proc_version: ``/proc/version``, by which WSL is recognised.
        macos: Version of macOS.
        container: ``yes`` when a container's marker file was found.
        cpuinfo: ``vendor_id, model_name, flags`` (x86) or ``Features`` (ARM) of the first processor.
        os_cpu_count: Hardware threads of the host.
        physical_cores: Distinct cores.
        sched_affinity: CPUs that the scheduler grants this process.
        numa_nodes: Memory nodes.
        caches: Bytes by name: ``L1d, L1i, L2, L3``, of the first processor.
        meminfo_kB: ``MemTotal`` and ``MemAvailable`` in units of 1,024 bytes.
        swap_kB: Swap space, same unit.
        disk: ``total_bytes`` and ``free_bytes`` of the file system of the working directory.
        cgroup: ``{"levels": [...]}``, the files of each cgroup from the process up to the root.
        gpus: One mapping per device: ``vendor, name, total_memory_bytes, mem_get_info_free, uuid``, and
            ``major, minor`` (NVIDIA), ``gcnArchName`` (AMD), ``is_integrated``, ``mig``.
        nvml: ``driver`` and the newest ``cuda`` that it runs.
        pci_display: ``[vendor, device]`` of Intel's display devices.
        sysctl: Values that macOS reports, by name.
        env: Environment variables that change what a process may use.
        torch: Version and build of the installed torch; ``{"installed": False}`` without one.
        packages: Versions of the installed packages that a rule reads.
        notes: What could not be read.
    """

    system: str | None = None
    machine: str | None = None
    proc_version: str | None = None
    macos: str | None = None
    container: str | None = None
    cpuinfo: Mapping[str, object] | None = None
    os_cpu_count: int | None = None
    physical_cores: int | None = None
    sched_affinity: int | None = None
    numa_nodes: int | None = None
    caches: Mapping[str, object] | None = None
    meminfo_kB: Mapping[str, object] | None = None  # noqa: N815  # the name the recordings use
    swap_kB: int | None = None  # noqa: N815  # the name the recordings use
    disk: Mapping[str, object] | None = None
    cgroup: Mapping[str, object] | None = None
    gpus: Sequence[Mapping[str, object]] | None = None
    nvml: Mapping[str, object] | None = None
    pci_display: Sequence[Sequence[str]] | None = None
    sysctl: Mapping[str, object] | None = None
    env: Mapping[str, object] | None = None
    torch: Mapping[str, object] | None = None
    packages: Mapping[str, object] | None = None
    notes: Sequence[str] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types with every field, and ``schema``."""
        return {"schema": RAW_SCHEMA, **super().to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> RawObservations:
        """Read what ``to_dict`` wrote, or a ``raw`` object of the older, looser form.

        Args:
            data: The object, or a recording that holds it under ``raw``. Keys that no rule reads are left
                out. In the older form a missing key is None, ``"torch": null`` means that torch is not
                installed, and a cgroup stands there without its list of levels.

        Raises:
            ProfileError: Nothing that was observed is in it, or a value has the wrong type.
        """
        inner = data.get("raw")
        raw = inner if isinstance(inner, Mapping) else data
        if not _TELLING & set(raw):
            raise ProfileError(
                f"A recorded machine holds one of {', '.join(sorted(_TELLING))}; found "
                f"{', '.join(sorted(map(str, raw))) or 'nothing'}. Write one with `distill-hwdetect record`.",
                field="raw",
                found=tuple(sorted(map(str, raw))),
                allowed=tuple(sorted(_TELLING)),
            )
        older = raw.get("schema") != RAW_SCHEMA
        values = {name: _checked(name, raw.get(name), older=older) for name in cls.fields()}
        if older and "torch" in raw and raw["torch"] is None:
            values["torch"] = {"installed": False}
        group = values["cgroup"]
        if isinstance(group, Mapping) and "levels" not in group:
            values["cgroup"] = {"levels": [dict(group)]}
        return cls(**values)  # type: ignore[arg-type]  # each checked above


def _checked(name: str, value: object, *, older: bool) -> object:
    """Return a value of the field's type; the older form has a message in place of a missing library."""
    if value is None or (older and name == "nvml" and isinstance(value, str)):
        return None
    if name in _MAPPINGS:
        wanted, valid = "an object", isinstance(value, Mapping)
    elif name in _LISTS:
        wanted, valid = "a list", isinstance(value, Sequence) and not isinstance(value, str)
    elif name in _NUMBERS:
        wanted, valid = "a whole number", isinstance(value, int) and not isinstance(value, bool)
    else:
        wanted, valid = "a text", isinstance(value, str)
    if not valid:
        raise ProfileError(
            f"{name} of a recorded machine must be {wanted}, found {value!r}. "
            "Write one with `distill-hwdetect record`.",
            field=name,
            found=value,
        )
    return value
