"""Which devices a process sees, as the drivers read CUDA_VISIBLE_DEVICES and similar variables."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The first of these that is set decides; HIP reads CUDA's name too.
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "rocm": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    "xpu": ("ZE_AFFINITY_MASK", "ONEAPI_DEVICE_SELECTOR"),
    "mps": (),
}


def visible_order(kind: str, uuids: Sequence[str | None], environment: Mapping[str, str]) -> list[int] | None:
    """Return the positions that a process sees, in its own order.

    A list of numbers, or of identifiers that may be cut short where they stay unique; it ends at the first
    entry that names no device; one that comes twice hides everything; ``""``, ``-1`` and words hide all.

    Args:
        kind: ``cuda``, ``rocm``, ``xpu`` or ``mps``.
        uuids: The identifier of each device, in the driver's order, None where it is not known.
        environment: The process's variables.

    Returns:
        Positions into ``uuids``; None when no variable restricts them.

    Source:
        CUDA C++ programming guide, "CUDA environment variables"; torch.cuda._parse_visible_devices.
    """
    for name in VARIABLES.get(kind, ()):
        value = environment.get(name)
        if value is None or (kind == "xpu" and not value.replace(",", "").replace(".", "").isdigit()):
            continue
        return _chosen([part.strip() for part in value.split(",")], uuids)
    return None


def hiding_variable(kind: str, environment: Mapping[str, str]) -> str:
    """Return the setting that decides, as a user would write it."""
    for name in VARIABLES.get(kind, ()):
        if name in environment:
            return f"{name}={environment[name]!r}"
    return ""


def _chosen(parts: Sequence[str], uuids: Sequence[str | None]) -> list[int]:
    chosen: list[int] = []
    for part in parts:
        position = _position(part, uuids)
        if position is None:
            break
        if position in chosen:
            return []
        chosen.append(position)
    return chosen


def _position(part: str, uuids: Sequence[str | None]) -> int | None:
    """Return the device that one entry names; Intel writes ``0.1`` for a tile of a card."""
    ordinal = part.split(".", maxsplit=1)[0].removeprefix("+")
    if ordinal.isdigit():
        return int(ordinal) if int(ordinal) < len(uuids) else None
    if not part.startswith(("GPU-", "MIG-")):
        return None
    known = [place for place, uuid in enumerate(uuids) if uuid is not None and uuid.startswith(part)]
    if len(known) == 1:
        return known[0]
    # A recording without identifiers holds what its process saw: take its single device for the one named.
    return 0 if not any(uuids) and len(uuids) == 1 else None
