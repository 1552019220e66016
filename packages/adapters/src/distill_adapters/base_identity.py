"""Fingerprint of an adapter's base weights, from a few bytes of every tensor."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_WINDOWS = 4
_WINDOW_BYTES = 256


def weights_fingerprint(source: Path | str | None) -> str | None:
    """Fingerprint of the weights of a model folder, a GGUF file, or a hub name that was downloaded.

    Names, types and shapes of all tensors, and of each 1 KB spread over it: enough to distinguish models in
    milliseconds, however they are cut into files. Damage is what manifests are for.

    Args:
        source: A folder with safetensors, a ``.gguf`` file, or a hub name; None has no weights.

    Returns:
        SHA-256 in hexadecimal, or None if there are no such weights.
    """
    entries = sorted(entry for file in _files(source) for entry in _tensors(file))
    if not entries:
        return None
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(entry)
    return digest.hexdigest()


def _files(source: Path | str | None) -> list[Path]:
    if source is None:
        return []
    path = Path(source)
    if path.is_file():
        return [path]
    if not path.is_dir():
        from transformers.utils.hub import cached_file

        try:
            found = cached_file(str(source), "config.json", local_files_only=True)
        except OSError:
            return []
        path = Path(str(found)).parent
    return [file for file in path.glob("*.safetensors") if not file.name.startswith("adapter_")]


def _tensors(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        if file.suffix == ".gguf":
            yield _sampled(opened, 0, file.stat().st_size, windows=64)
            return
        length = int.from_bytes(opened.read(8), "little")
        for name, facts in json.loads(opened.read(length)).items():
            if name != "__metadata__":
                start, end = facts["data_offsets"]
                label = json.dumps([name, facts["dtype"], facts["shape"]]).encode()
                yield label + _sampled(opened, 8 + length + start, end - start, windows=_WINDOWS)


def _sampled(opened: BinaryIO, start: int, size: int, *, windows: int) -> bytes:
    """The size, and bytes at even distances, the first and the last included."""
    taken = [size.to_bytes(8, "little")]
    for window in range(windows):
        place = max(size - _WINDOW_BYTES, 0) * window // (windows - 1)
        opened.seek(start + place)
        taken.append(opened.read(min(_WINDOW_BYTES, size)))
    return b"".join(taken)
