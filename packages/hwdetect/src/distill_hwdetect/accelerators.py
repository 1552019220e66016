"""The accelerators of a machine, from raw observations."""

from __future__ import annotations

from collections.abc import Mapping

from distill_hwdetect.errors import ProfileError
from distill_hwdetect.profile import Accelerator, MemoryFacts
from distill_hwdetect.refusals import nearest
from distill_hwdetect.values import Raw, mapping, number, text
from distill_hwdetect.visibility import hiding_variable, visible_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distill_hwdetect.observations import RawObservations
    from distill_hwdetect.profile import Kind

_KINDS: Mapping[str, Kind] = {"nvidia": "cuda", "amd": "rocm", "intel": "xpu", "apple": "mps"}
# Discrete Intel cards by the first digits of their PCI identifier: Arc A and B, Max, Flex.
_DISCRETE_INTEL = ("0x4f8", "0x56", "0xe2", "0x0bd", "0xb0", "0xbd")
# Metal's recommended working set: two thirds of memory up to 36 GiB, three quarters above (recorded on an
# M1 of 8 GiB: 5726633984 bytes); `sysctl iogpu.wired_limit_mb` replaces it.
_METAL_LARGE_BYTES = 36 * 2**30


def read_accelerators(
    raw: RawObservations, memory: MemoryFacts, environment: Mapping[str, str], notes: list[str]
) -> tuple[Accelerator, ...]:
    """Return the devices, those that this process sees first and in the order in which torch counts them.

    Raises:
        ProfileError: A device that is not an object, or of an unknown vendor.
    """
    found: list[Accelerator] = []
    for gpu in raw.gpus or ():
        if not isinstance(gpu, Mapping):
            raise ProfileError(f"Each of gpus must be an object, found {gpu!r}.", field="gpus", found=gpu)
        vendor = str(gpu.get("vendor", ""))
        if vendor not in _KINDS:
            raise ProfileError(
                f"A GPU's vendor must be one of {', '.join(_KINDS)}, found {vendor!r}.",
                field="gpus.vendor",
                found=vendor,
                allowed=tuple(_KINDS),
                suggestion=nearest(vendor, _KINDS),
            )
        found.append(_accelerator(gpu, _KINDS[vendor], mapping(raw.nvml)))
    if not any(device.kind == "xpu" for device in found):
        found += [_intel(entry) for entry in raw.pci_display or () if str(entry[0]) == "0x8086"]
    found += _apple(mapping(raw.sysctl), mapping(raw.torch), memory)
    notes.extend(
        f"The memory of {device.name} was not read; a deep probe asks torch."
        for device in found
        if device.total_bytes is None and not device.unified
    )
    ordered: list[Accelerator] = []
    for kind in dict.fromkeys(device.kind for device in found):
        ordered += _ordered([device for device in found if device.kind == kind], environment, notes)
    return tuple(ordered)


def _ordered(
    devices: list[Accelerator], environment: Mapping[str, str], notes: list[str]
) -> list[Accelerator]:
    """Number the devices of one kind as torch does; hidden ones follow, each with what hides it."""
    kind = devices[0].kind
    order = visible_order(kind, [device.uuid for device in devices], environment)
    reason = hiding_variable(kind, environment)
    if kind == "cuda":
        if len({device.capability for device in devices}) > 1 and not _by_bus(environment):
            notes.append(
                "The GPUs differ, and CUDA counts the fastest first while nvidia-smi counts by bus: set "
                "CUDA_DEVICE_ORDER=PCI_BUS_ID, so that numbers mean the same in both."
            )
        slices = [place for place, device in enumerate(devices) if device.partition]
        if slices and (order is None or len(order) > 1):
            # A process gets one MIG slice, the first unless a variable names another.
            order = [place for place in order or slices if devices[place].partition][:1]
            reason = "MIG: one slice a process, CUDA_VISIBLE_DEVICES=MIG-... picks another"
    if order is None:
        return [device.replace(index=index) for index, device in enumerate(devices)]
    hidden = [place for place in range(len(devices)) if place not in order]
    numbered = [devices[place].replace(index=index) for index, place in enumerate(order)]
    return numbered + [
        devices[place].replace(index=index, hidden_by=reason)
        for index, place in enumerate(hidden, start=len(order))
    ]


def _by_bus(environment: Mapping[str, str]) -> bool:
    return environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"


def _accelerator(gpu: Raw, kind: Kind, nvml: Raw) -> Accelerator:
    major, minor = number(gpu, "major"), number(gpu, "minor")
    name = str(gpu.get("name") or "")
    capability = (major, minor) if kind == "cuda" and major is not None and minor is not None else None
    target = str(gpu["gcnArchName"]).split(":")[0] if gpu.get("gcnArchName") else None
    return Accelerator(
        kind=kind,
        name=name,
        capability=capability,
        target=target,
        total_bytes=number(gpu, "total_memory_bytes"),
        free_bytes=number(gpu, "mem_get_info_free"),
        uuid=text(gpu.get("uuid")),
        driver=text(nvml.get("driver")) if kind == "cuda" else None,
        driver_cuda=text(nvml.get("cuda")) if kind == "cuda" else None,
        unified=bool(gpu.get("is_integrated")),
        partition=" MIG " in name or bool(gpu.get("mig")),
    )


def _intel(entry: object) -> Accelerator:
    """Return a display device that the bus names; a discrete card has memory of its own, of unknown size."""
    vendor, device = (str(word) for word in entry) if isinstance(entry, (list, tuple)) else ("", "")
    name = f"Intel GPU {vendor[2:]}:{device[2:]}"
    return Accelerator(kind="xpu", name=name, unified=not device.startswith(_DISCRETE_INTEL))


def _apple(sysctl: Raw, torch: Raw, memory: MemoryFacts) -> list[Accelerator]:
    name = str(sysctl.get("machdep.cpu.brand_string", ""))
    if "Apple" not in name:
        return []
    size = number(sysctl, "hw.memsize") or memory.total_bytes
    wired = number(sysctl, "iogpu.wired_limit_mb")
    budget = number(torch, "recommended_max_memory")
    if budget is None:
        usual = size * 3 // 4 if size > _METAL_LARGE_BYTES else size * 2 // 3
        budget = wired * 2**20 if wired else usual
    return [Accelerator(kind="mps", name=name, total_bytes=budget, free_bytes=budget, unified=True)]
