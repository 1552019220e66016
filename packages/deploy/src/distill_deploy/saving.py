"""Saving model and tokenizer as one folder with a manifest, and reading tensors back without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from distill_deploy.errors import ArgumentError, IntegrityError, NonFiniteWeightsError
from distill_deploy.folders import staged
from distill_deploy.manifest import MANIFEST, parse, tensors_of
from distill_deploy.verification import verify

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# The integer as wide as each float dtype, and its exponent bits: all set is NaN or infinity.
_EXPONENTS: Mapping[str, tuple[type[np.unsignedinteger], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_CHUNK = 1 << 22  # values looked at together, so that the check needs 32 MB whatever the model


class SavesPretrained(Protocol):
    """Anything with the ``save_pretrained`` of transformers: a model, a PEFT adapter, a tokenizer."""

    def save_pretrained(self, save_directory: str) -> object:
        """Write itself into a folder."""


@dataclass(frozen=True)
class LoadedFolder:
    """A verified folder, its tensors (read when asked for), and whether a manifest vouched for it."""

    path: Path
    tensors: Mapping[str, NDArray[np.generic]]
    has_manifest: bool


def save(
    model: SavesPretrained | None,
    tokenizer: SavesPretrained | None,
    folder: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one flat ``save_pretrained`` folder with a manifest, whole or not at all.

    Args:
        model: What to save, or None for a tokenizer alone.
        tokenizer: Its tokenizer, or None for a model alone.
        folder: Where it shall stand.
        metadata: Texts for the manifest.
        overwrite: Whether an existing folder is replaced.

    Returns:
        ``folder``.

    Raises:
        NonFiniteWeightsError: A tensor holds NaN or infinity; nothing is written.
        FileExistsError: ``folder`` exists and ``overwrite`` is false.
        ArgumentError: Both ``model`` and ``tokenizer`` are None.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_deploy import save, verify
        >>> tokenizer = AutoTokenizer.from_pretrained("writer")
        >>> folder = save(None, tokenizer, "only-tokenizer", metadata={"of": "writer"})
        >>> "tokenizer.json" in verify(folder).files
        True
    """
    from pathlib import Path

    if model is None and tokenizer is None:
        raise ArgumentError("a model or a tokenizer to save was expected, and both are None", field="model")
    with staged(folder, overwrite=overwrite, metadata=metadata) as staging:
        for part in (model, tokenizer):
            if part is not None:
                part.save_pretrained(str(staging))
        for path in sorted(staging.glob("*.safetensors")):
            _refuse_non_finite(path)
    return Path(folder)


def load_tensors(folder: Path | str, *, require_manifest: bool = False) -> LoadedFolder:
    """Verify ``folder`` and return its tensors as a lazy mapping; distill-adapters loads models.

    Args:
        folder: A folder with safetensors files.
        require_manifest: Refuse a folder without a manifest.

    Returns:
        The folder and its tensors, each read as a NumPy array when it is asked for.

    Raises:
        IntegrityError: As :func:`distill_deploy.verify`, or a safetensors file cannot be read, or lacks a
            tensor that the manifest or an index names, or holds one of another dtype or shape than the
            manifest's.
        NotADirectoryError: ``folder`` is not a directory.

    Example:
        >>> from distill_deploy import load_tensors
        >>> loaded = load_tensors("writer")
        >>> loaded.has_manifest, loaded.tensors["model.embed_tokens.weight"].shape
        (True, (96, 64))
    """
    found = verify(folder, require_manifest=require_manifest)
    if found.has_manifest:
        _compare_tensors(found.path)
    return LoadedFolder(found.path, _Tensors(found.path), found.has_manifest)


def _compare_tensors(folder: Path) -> None:
    for name, entry in parse(folder / MANIFEST)[0].items():
        if entry.tensors is None:
            continue
        found = tensors_of(folder / name) or {}
        for tensor, layout in entry.tensors.items():
            if tensor not in found:
                raise IntegrityError(f"{folder}: {name} lacks the tensor {tensor!r} that it was saved with")
            if found[tensor] != layout:
                raise IntegrityError(
                    f"{folder}: {name} holds {tensor!r} as {found[tensor]}, it was saved as {layout}"
                )
        extra = sorted(found.keys() - entry.tensors.keys())
        if extra:
            raise IntegrityError(f"{folder}: {name} holds {extra[0]!r}, a tensor that it was not saved with")


class _Tensors(Mapping[str, "NDArray[np.generic]"]):
    """Tensors of the safetensors files of a folder, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._homes: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            for name in _header(path)[0]:
                self._homes[name] = path
        for index in sorted(folder.glob("*.safetensors.index.json")):
            for name, part in json.loads(index.read_bytes())["weight_map"].items():
                if self._homes.get(name) != folder / part:
                    raise IntegrityError(
                        f"{folder}: {part} lacks the tensor {name!r} that {index.name} names"
                    )

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        from safetensors import safe_open

        with safe_open(self._homes[name], framework="numpy") as file:
            tensor: NDArray[np.generic] = file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


def _header(path: Path) -> tuple[dict[str, tuple[str, int, int]], int]:
    """Tensors of a safetensors file (dtype, begin, end in bytes) and where their data begins."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass  # the library's own checks: lengths, overlaps, dtypes
    except SafetensorError as error:
        raise IntegrityError(
            f"{path.parent}: {path.name} is not a valid safetensors file ({error})"
        ) from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {name: (e["dtype"], *e["data_offsets"]) for name, e in header.items()}, 8 + length


def _refuse_non_finite(path: Path) -> None:
    tensors, start = _header(path)
    for name, (dtype, begin, end) in tensors.items():
        if dtype not in _EXPONENTS or begin == end:
            continue
        integer, exponent = _EXPONENTS[dtype]
        width = np.dtype(integer).itemsize
        for first in range(begin, end, _CHUNK * width):
            count = min(end - first, _CHUNK * width) // width
            bits = np.fromfile(path, integer, count, offset=start + first)
            if bool(np.any((bits & integer(exponent)) == integer(exponent))):
                raise NonFiniteWeightsError(
                    f"the tensor {name!r} holds NaN or infinity, and such a model is not saved; "
                    "lower the learning rate or load an earlier checkpoint"
                )
