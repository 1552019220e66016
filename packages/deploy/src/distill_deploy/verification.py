"""Checking a folder against its manifest before the first byte of it is parsed."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill_deploy.errors import IntegrityError
from distill_deploy.manifest import MANIFEST, Entry, counted_files, digest, is_plain, parse

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_LOG = logging.getLogger("distill_deploy")
_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".msgpack"})

_PICKLE_HEADS = frozenset({b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"})


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        path: The folder.
        has_manifest: Whether MANIFEST.json is there, and so every counted file was compared with it.
        files: Names of the counted files.
        metadata: Texts that the manifest carries.
    """

    path: Path
    has_manifest: bool
    files: tuple[str, ...]
    metadata: Mapping[str, str]


def verify(
    folder: Path | str, *, require_manifest: bool = False, allow: Collection[str] = ()
) -> Verification:
    """Check every counted file of ``folder`` against MANIFEST.json.

    README.md, .gitattributes and .cache/ do not count. A folder without a manifest, such as a hub
    snapshot with its links, is accepted with ``has_manifest=False`` and logged as unverified; pickles are
    refused there as well.

    Args:
        folder: A folder.
        require_manifest: Refuse a folder without a manifest.
        allow: Names of files with the suffix of a pickle to accept where the manifest lists them, such as
            the ``optimizer.pt`` of a checkpoint that is read with ``weights_only=True``.

    Raises:
        IntegrityError: A file is changed, missing, extra, linked, a pickle, or leaves the folder. One
            line that names the file.
        NotADirectoryError: ``folder`` is not a directory.

    Example:
        >>> from distill_deploy import verify
        >>> found = verify("writer", require_manifest=True)
        >>> found.has_manifest, "config.json" in found.files
        (True, True)
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"a model folder was expected at {root}, which is not a directory")
    present = dict(counted_files(root))
    has_manifest = os.path.lexists(root / MANIFEST)
    if not has_manifest and require_manifest:
        raise IntegrityError(f"{root}: {MANIFEST} is missing, and a folder with a manifest was required")
    listed: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    if has_manifest:
        listed, metadata = parse(root / MANIFEST)
        _compare(root, present, listed)
    for name, path in present.items():
        if not (name in listed and name in allow) and _is_pickle(path):
            raise IntegrityError(f"{root}: {name} is a pickle; pickles are never loaded, save as safetensors")
    for name, path in present.items():
        if name.endswith(".index.json"):
            _check_index(root, name, path)
    if not has_manifest:
        _LOG.warning("%s: unverified (no %s)", root, MANIFEST)
    return Verification(root, has_manifest, tuple(present), metadata)


def _compare(root: Path, present: Mapping[str, Path], listed: Mapping[str, Entry]) -> None:
    for name in listed:
        if name not in present:
            raise IntegrityError(f"{root}: {name} is missing")
    for name, path in present.items():
        if path.is_symlink():
            raise IntegrityError(f"{root}: {name} is a link, and a folder with a manifest holds none")
        if name not in listed:
            raise IntegrityError(f"{root}: {name} is extra, the manifest does not list it")
        if not path.is_file():
            raise IntegrityError(f"{root}: {name} is not a regular file")
        found = path.stat().st_size
        if found != listed[name].size:
            raise IntegrityError(f"{root}: {name} has {found} bytes, the manifest says {listed[name].size}")
        if digest(path) != listed[name].sha256:
            raise IntegrityError(f"{root}: {name} was changed (its SHA-256 differs from the manifest)")


def _is_pickle(path: Path) -> bool:
    """Whether a file has the suffix of a pickle and is neither CTranslate2's ``model.bin`` nor OpenVINO's.

    CTranslate2's begins with its version, a small little-endian 32-bit number; no pickle and no zip archive
    begins with a byte under 0x20. OpenVINO's ``openvino_model.bin`` is bare weights beside an XML file that
    describes them, and is accepted unless it begins as a pickle or a zip archive does.
    """
    if path.suffix.lower() not in _PICKLES:
        return False
    if path.name not in ("model.bin", "openvino_model.bin"):
        return True
    with path.open("rb") as file:
        head = file.read(4)
    if path.name == "openvino_model.bin":
        return not path.with_suffix(".xml").is_file() or head[:2] in _PICKLE_HEADS
    return not (len(head) == 4 and 0 < head[0] < 0x20 and head[1:] == b"\0\0\0")


def _check_index(root: Path, name: str, path: Path) -> None:
    try:
        names = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{root}: {name} is not an index of weights ({error!r})") from error
    for part in sorted(map(str, names)):
        if not is_plain(part) or "/" in part:
            raise IntegrityError(f"{root}: {name} names {part!r}, which leaves the folder")
        if not (path.parent / part).is_file():
            raise IntegrityError(f"{root}: {part} is missing, {name} names it")
