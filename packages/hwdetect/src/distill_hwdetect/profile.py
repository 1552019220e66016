"""The facts of a machine: frozen records of plain types that can be written to JSON and read back."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from distill_hwdetect.errors import ProfileError
from distill_hwdetect.records import Record

# Type checkers take it for true; importing typing costs milliseconds that detection does not have.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["cuda", "rocm", "xpu", "mps"]

SCHEMA_VERSION = 1

# Flags that a rule or an explanation reads; the hundred others in /proc/cpuinfo never matter here.
FLAGS_READ = (
    "amx_bf16",
    "amx_tile",
    "asimd",
    "avx2",
    "avx512_bf16",
    "avx512f",
    "avx_ne_convert",
    "avx_vnni",
    "bf16",
    "i8mm",
    "sve",
)


class CpuFacts(Record):
    """The processor as this process may use it.

    Args:
        machine: Architecture as the kernel names it: ``x86_64``, ``aarch64``, ``arm64``.
        vendor: As the processor reports it, or None (ARM reports a number only).
        name: Model name, or None.
        logical_cores: Hardware threads of the host.
        physical_cores: Cores (performance cores on Apple chips), or None when not known.
        usable_cores: The smallest of host, scheduler affinity and cgroup quota (rounded up).
        flags: Those of ``FLAGS_READ`` that the processor has, sorted.
        numa_nodes: Memory nodes, or None.
        caches: Bytes by name (``L1d, L1i, L2, L3``) as one core sees them, or None.
    """

    machine: str = ""
    vendor: str | None = None
    name: str | None = None
    logical_cores: int = 1
    physical_cores: int | None = None
    usable_cores: int = 1
    flags: tuple[str, ...] = ()
    numa_nodes: int | None = None
    caches: Mapping[str, int] | None = None

    @property
    def computes_bfloat16(self) -> bool:
        """True where bfloat16 products are computed by the processor, not emulated."""
        native = {"bf16"} if self.is_arm else {"amx_bf16", "avx512_bf16"}
        return not native.isdisjoint(self.flags)

    @property
    def has_vectors(self) -> bool:
        """True where bitsandbytes has kernels for the processor: AVX2, or NEON on ARM."""
        return ("asimd" if self.is_arm else "avx2") in self.flags

    @property
    def is_arm(self) -> bool:
        """True on 64-bit ARM."""
        return self.machine in ("aarch64", "arm64")


class MemoryFacts(Record):
    """Main memory as this process may use it.

    Args:
        total_bytes: The smaller of installed memory and the cgroup limit.
        available_bytes: Memory that is available now without swapping, within the limit.
        host_bytes: Installed memory.
        limit_bytes: The lowest cgroup limit that applies to this process, None without one.
        swap_bytes: Swap space, None when not known.
    """

    total_bytes: int
    available_bytes: int
    host_bytes: int | None = None
    limit_bytes: int | None = None
    swap_bytes: int | None = None


class Accelerator(Record):
    """One accelerator: a GPU, or a part of one.

    Args:
        kind: The vendor's software: ``cuda`` (NVIDIA), ``rocm`` (AMD), ``xpu`` (Intel), ``mps`` (Apple).
        index: Position among the devices of its kind.
        name: As the driver reports it.
        capability: Compute capability of NVIDIA devices, ``(8, 6)``.
        target: Instruction set of AMD devices without its suffix, ``gfx942``.
        total_bytes: Device memory, None if the driver does not report it (unified memory).
        free_bytes: Free device memory, None when not known.
        uuid: The driver's identifier. Tools number devices differently; only this is the same in all.
        driver: Driver version.
        driver_cuda: Newest CUDA runtime that this driver runs, ``"12.0"``.
        unified: True when its memory is the host's.
        partition: True for a MIG slice; its memory is the slice's, not the card's.
        hidden_by: The variable that hides it from this process, such as ``CUDA_VISIBLE_DEVICES=''``; None if
            the process sees it.
    """

    kind: Kind
    index: int = 0
    name: str = ""
    capability: tuple[int, int] | None = None
    target: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    uuid: str | None = None
    driver: str | None = None
    driver_cuda: str | None = None
    unified: bool = False
    partition: bool = False
    hidden_by: str | None = None


class TorchFacts(Record):
    """The installed torch, read without importing it. None means that a fact is not known.

    Args:
        version: With its local part where the package carries one.
        cuda: CUDA version it was built for; ``""`` when built without CUDA.
        hip: ROCm version it was built for; ``""`` when built without ROCm.
        xpu: Whether it was built for Intel GPUs.
        mps: Whether it can use Apple GPUs.
        arch_list: CUDA kernels inside, ``("sm_75", ...)``.
        cuda_available: What ``torch.cuda.is_available()`` said when a recording or a deep probe asked.
        speeds: GFLOP/s of a small matrix product by device and type, from a deep probe.
    """

    version: str | None = None
    cuda: str | None = None
    hip: str | None = None
    xpu: bool | None = None
    mps: bool | None = None
    arch_list: tuple[str, ...] | None = None
    cuda_available: bool | None = None
    speeds: Mapping[str, Mapping[str, float]] | None = None


class HardwareProfile(Record):
    """Everything that ``choose_policy`` reads about a machine.

    Args:
        system: ``Linux``, ``Darwin`` or ``Windows``.
        cpu: The processor.
        memory: Main memory.
        accelerators: The accelerators, those that this process sees first, in the order in which torch counts
            them.
        torch: None when torch is not installed; fields of None when a recording does not say.
        packages: Versions of the installed packages that a rule reads; None when a recording does not say.
        environment: Environment variables and circumstances that matter: ``CUDA_VISIBLE_DEVICES``,
            ``container``, ``wsl``.
        disk_total_bytes: Size of the file system of the working directory, None when not known.
        disk_free_bytes: Bytes that this user may still write there.
        notes: What could not be read, and what else the user should know.
    """

    system: str = "Linux"
    cpu: CpuFacts
    memory: MemoryFacts
    accelerators: tuple[Accelerator, ...] = ()
    torch: TorchFacts | None = TorchFacts()
    packages: Mapping[str, str] | None = None
    environment: Mapping[str, str] = MappingProxyType({})
    disk_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types, with ``schema_version``; ``from_dict`` reads back an equal profile."""
        return {"schema_version": SCHEMA_VERSION, **super().to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> HardwareProfile:
        """Read what ``to_dict`` wrote.

        Raises:
            ProfileError: Another schema version, or a field that is missing or unknown.
        """
        found = data.get("schema_version")
        if found != SCHEMA_VERSION:
            raise ProfileError(
                f"A profile with schema_version {SCHEMA_VERSION} was expected, found {found!r}. "
                "Write it again with `distill-hwdetect --json`.",
                field="schema_version",
                found=found,
                allowed=(SCHEMA_VERSION,),
                suggestion=SCHEMA_VERSION,
            )
        try:
            return _profile(data)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ProfileError(
                f"This is not a valid hardware profile: {error}. Write one with `distill-hwdetect --json`.",
                field=getattr(error, "field", None),
                found=getattr(error, "found", None),
                allowed=getattr(error, "allowed", ()),
                suggestion=getattr(error, "suggestion", None),
            ) from error


def _arguments(item: object, *tuples: str) -> dict[str, object]:
    """Return the fields of one object of a profile; lists that JSON made of tuples become tuples again."""
    if not isinstance(item, Mapping):
        raise TypeError(f"an object was expected, found {item!r}")
    return {
        key: tuple(value) if key in tuples and value is not None else value for key, value in item.items()
    }


def _profile(data: Mapping[str, object]) -> HardwareProfile:
    values = _arguments(data, "notes")
    values.pop("schema_version", None)
    values["cpu"] = CpuFacts(**_arguments(values["cpu"], "flags"))  # type: ignore[arg-type]  # from JSON
    values["memory"] = MemoryFacts(**_arguments(values["memory"]))  # type: ignore[arg-type]  # from JSON
    devices = values.get("accelerators", ())
    if not isinstance(devices, (list, tuple)):
        raise TypeError(f"accelerators must be a list, found {devices!r}")
    values["accelerators"] = tuple(
        Accelerator(**_arguments(item, "capability"))  # type: ignore[arg-type]  # from JSON
        for item in devices
    )
    if values.get("torch") is not None:
        values["torch"] = TorchFacts(**_arguments(values["torch"], "arch_list"))  # type: ignore[arg-type]
    return HardwareProfile(**values)  # type: ignore[arg-type]  # from JSON
