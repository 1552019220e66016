"""Recordings: the raw observations of a machine, without anything that identifies its owner."""

import re
from collections.abc import Mapping, Sequence

from distill_hwdetect.observations import RawObservations
from distill_hwdetect.values import mapping

RECORDING_SCHEMA = "hwprofile/1"
# What the builds of torch append to their version; another suffix may name a company.
_LOCAL = re.compile(r"(cpu|cu\d+|rocm[\d.]+|xpu)")
_PLAIN = re.compile(r"[\d,.: *+-]*|PCI_BUS_ID|FASTEST_FIRST|(level_zero|opencl|cuda|hip):[\d,.*]+")


def record(raw: RawObservations, *, version: str) -> dict[str, object]:
    """Return a recording, ready for JSON: a fixture of the machine, which ``--profile`` reads.

    Args:
        raw: What was observed.
        version: The version of this package.

    Returns:
        ``{"schema", "provenance", "sources", "recorded_fields", "raw"}``. Identifiers of devices are
        numbered, kernel and package versions lose what their builder appended, paths in notes are cut out.
    """
    return {
        "schema": RECORDING_SCHEMA,
        "provenance": "recorded",
        "sources": f"distill-hwdetect {version} record",
        "recorded_fields": "everything",
        "raw": without_identity(raw).to_dict(),
    }


def without_identity(raw: RawObservations) -> RawObservations:
    """Return observations that do not identify the owner; ``choose_policy`` decides the same on them."""
    gpus = [dict(gpu) for gpu in raw.gpus or ()]
    names: dict[str, str] = {}
    for number, gpu in enumerate(gpus):
        uuid = gpu.get("uuid")
        if isinstance(uuid, str):
            names[uuid] = f"{uuid[:4] if uuid.startswith(('GPU-', 'MIG-')) else 'GPU-'}{number:08d}"
            gpu["uuid"] = names[uuid]
    torch = dict(mapping(raw.torch))
    if isinstance(torch.get("version"), str):
        torch["version"] = _version(str(torch["version"]))
    return raw.replace(
        proc_version=_kernel(raw.proc_version),
        gpus=None if raw.gpus is None else gpus,
        env={name: _setting(str(value), names) for name, value in mapping(raw.env).items()},
        torch=None if raw.torch is None else torch,
        packages=_packages(raw.packages),
        notes=_notes(raw.notes),
    )


def _kernel(text: str | None) -> str | None:
    """Keep the number of the kernel and whether it is WSL's: a builder's name and host follow it."""
    if text is None:
        return None
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    wsl = "-microsoft-standard-WSL2" if "microsoft" in text.lower() else ""
    return f"Linux version {found.group() if found else 'unknown'}{wsl}"


def _setting(value: str, names: Mapping[str, str]) -> str:
    """Keep numbers and known words; put the new identifier for an old one, cut short or not."""
    if _PLAIN.fullmatch(value):
        return value
    parts = []
    for part in value.split(","):
        known = [new for old, new in names.items() if part and old.startswith(part.strip())]
        prefix = part.strip()[:4]
        unknown = f"{prefix}unknown" if prefix in ("GPU-", "MIG-") else "unknown"
        parts.append(part if _PLAIN.fullmatch(part) else known[0] if len(known) == 1 else unknown)
    return ",".join(parts)


def _version(text: str) -> str:
    public, _, local = text.partition("+")
    return f"{public}+{local}" if _LOCAL.fullmatch(local) else public


def _packages(packages: Mapping[str, object] | None) -> dict[str, str] | None:
    return None if packages is None else {name: _version(str(value)) for name, value in packages.items()}


def _notes(notes: Sequence[str] | None) -> list[str] | None:
    return None if notes is None else [re.sub(r"\S*[/\\]\S*", "(path)", note) for note in notes]
