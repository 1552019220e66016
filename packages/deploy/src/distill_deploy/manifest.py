"""MANIFEST.json: the size and SHA-256 of every file of a folder, and of the manifest itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from distill_deploy.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST = "MANIFEST.json"
FORMAT = 1
UNCOUNTED_FILES = frozenset({"README.md", ".gitattributes"})
UNCOUNTED_FOLDERS = frozenset({".cache"})
_MOST_HEADER_BYTES = 100_000_000  # what safetensors itself accepts
_PACKAGES = ("distill-deploy", "safetensors", "tokenizers", "transformers", "torch")


class Entry(NamedTuple):
    """What a manifest says of a file. ``tensors``: name -> dtype and shape, as in ``F32 40x8``."""

    size: int
    sha256: str
    tensors: Mapping[str, str] | None


def counted_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every entry of ``folder`` that a manifest counts: its POSIX name and its path, in sorted order.

    Folders are walked and not listed; a link is listed, not followed. MANIFEST.json, README.md,
    .gitattributes and .cache/ at the top do not count.
    """
    yield from _walk(folder, "")


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if not prefix and (path.name == MANIFEST or path.name in UNCOUNTED_FILES | UNCOUNTED_FOLDERS):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, f"{prefix}{path.name}/")
        else:
            yield f"{prefix}{path.name}", path


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_of(path: Path) -> dict[str, str] | None:
    """Dtype and shape of each tensor of a safetensors file, by its header alone; None if it has none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length <= _MOST_HEADER_BYTES else b""
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        return {
            name: " ".join([entry["dtype"], "x".join(map(str, entry["shape"]))]).rstrip()
            for name, entry in header.items()
        }
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def render(files: Mapping[str, Mapping[str, object]], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a manifest. Its last field is the SHA-256 of everything before that field."""
    body: dict[str, object] = {
        "format": FORMAT,
        "files": dict(files),
        "metadata": dict(metadata),
        "versions": _versions(),
    }
    return _with_own_hash(body)


def _with_own_hash(body: Mapping[str, object]) -> bytes:
    own = hashlib.sha256(_dump(body)).hexdigest()
    return _dump({**body, "sha256": own})


def _dump(body: Mapping[str, object]) -> bytes:
    return (json.dumps(body, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def parse(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Files and metadata of a manifest.

    Raises:
        IntegrityError: It is a link, is not a manifest, was changed by as much as a byte, or names a path
            that leaves the folder.
    """
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(f"{path.parent}: {MANIFEST} is not a regular file")
    raw = path.read_bytes()
    try:
        body = json.loads(raw.decode("ascii"))
        own = body.pop("sha256")
        intact = _with_own_hash(body) == raw and isinstance(own, str)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise IntegrityError(f"{path.parent}: {MANIFEST} was changed since it was written")
    if body.get("format") != FORMAT:
        raise IntegrityError(
            f"{path.parent}: {MANIFEST} has format {body.get('format')!r}, this version reads {FORMAT}"
        )
    try:
        files = {
            str(name): Entry(int(e["size"]), str(e["sha256"]), e.get("tensors"))
            for name, e in body["files"].items()
        }
        metadata = {str(key): str(value) for key, value in body["metadata"].items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise IntegrityError(f"{path.parent}: {MANIFEST} lacks its fields ({error!r})") from error
    for name in files:
        if not is_plain(name):
            raise IntegrityError(f"{path.parent}: {MANIFEST} names {name!r}, which leaves the folder")
    return files, metadata


def is_plain(name: str) -> bool:
    """Whether ``name`` is a relative POSIX path that stays inside its folder."""
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and not name.startswith("/")
        and ".." not in parts
        and "\\" not in name
        and "\0" not in name
    )
