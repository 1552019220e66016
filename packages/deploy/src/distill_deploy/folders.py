"""Writing a folder so that it is either whole, with a manifest, or not there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import stat
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from distill_deploy.errors import IntegrityError
from distill_deploy.manifest import MANIFEST, Entry, counted_files, digest, parse, render, tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PARTIAL = ".partial"
_OLD = ".old"


@contextlib.contextmanager
def staged(
    folder: Path | str, *, overwrite: bool = False, metadata: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Yield an empty folder to write into; at a clean exit write its manifest and rename it to it.

    The staging folder lies beside ``folder``, so that the rename is atomic: a reader sees the old folder
    or the new one, never a part. Before it every file gets the mode the umask asks for, MANIFEST.json is
    written last, and files and folders are flushed to the disk. An exception, KeyboardInterrupt too,
    removes the staging folder and changes nothing; what a killed process left is removed by the next
    ``staged`` of the same folder.

    Args:
        folder: Where the result shall stand. Missing parents are made.
        overwrite: Whether an existing ``folder`` is replaced; its files are not kept.
        metadata: Texts that the manifest carries, such as the run and the base model.

    Raises:
        FileExistsError: ``folder`` exists and ``overwrite`` is false, or it is a file.

    Example:
        >>> from pathlib import Path
        >>> from distill_deploy import staged
        >>> with staged("notes", metadata={"run": "first"}) as folder:
        ...     _ = (folder / "note.txt").write_text("whole or not there")
        >>> sorted(path.name for path in Path("notes").iterdir())
        ['MANIFEST.json', 'note.txt']
    """
    target = Path(folder).absolute()
    _refuse_existing(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(target)
    staging = target.parent / f"{_stem(target)}{_owner()}{secrets.token_hex(4)}{_PARTIAL}"
    staging.mkdir()
    try:
        yield staging
        _set_modes(staging)
        write_manifest(staging, metadata=metadata)
        _flush(staging)
        _refuse_existing(target, overwrite=overwrite)
        _swap_in(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def write_manifest(folder: Path | str, *, metadata: Mapping[str, str] | None = None) -> Path:
    """Write MANIFEST.json for the files that ``folder`` now holds, and return its path.

    Write it again after a change of cards, certificates and configurations: the names, dtypes and shapes of
    the tensors of a weight file stay those of its first manifest, and :func:`distill_deploy.load_tensors`
    compares them.

    Args:
        folder: An existing folder.
        metadata: Texts to carry. None keeps those of a valid manifest that is already there.

    Raises:
        NotADirectoryError: ``folder`` is not a directory.
        IntegrityError: It holds a link or something else that is not a regular file.

    Example:
        >>> from pathlib import Path
        >>> from distill_deploy import verify, write_manifest
        >>> Path("cards").mkdir()
        >>> _ = Path("cards", "card.txt").write_text("a card")
        >>> write_manifest("cards", metadata={"by": "example"}).name
        'MANIFEST.json'
        >>> dict(verify("cards").metadata)
        {'by': 'example'}
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"a folder was expected at {root}, which is not a directory")
    target = root / MANIFEST
    known: dict[str, Entry] = {}
    if target.exists():
        with contextlib.suppress(IntegrityError):
            known, before = parse(target)
            metadata = before if metadata is None else metadata
    files: dict[str, dict[str, object]] = {}
    for name, path in counted_files(root):
        if path.is_symlink() or not path.is_file():
            raise IntegrityError(f"{root}: {name} is not a regular file, and a manifest lists only those")
        files[name] = {"size": path.stat().st_size, "sha256": digest(path)}
        if name.endswith(".safetensors"):
            files[name]["tensors"] = (known[name].tensors if name in known else None) or tensors_of(path)
    raw = render(files, metadata or {})
    partial = root / f".{MANIFEST}.{secrets.token_hex(4)}{_PARTIAL}"
    try:
        with partial.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _fsync(root)
    return target


def _refuse_existing(target: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise FileExistsError(f"{target} exists and is not a directory; choose another place")
    if not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=True to replace it, or choose another place")


def _stem(target: Path) -> str:
    return f".{target.name}."


def _owner() -> str:
    """Host and process that own a staging folder, to tell a leftover from work that goes on."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}-{os.getpid()}-"


def _clear_leftovers(target: Path) -> None:
    host = _owner().split("-", 1)[0]
    for path in target.parent.glob(f"{_glob_escape(_stem(target))}{host}-*"):
        pid = path.name[len(_stem(target)) :].split("-")[1]
        if not pid.isdigit() or _is_alive(int(pid)):
            continue
        if path.name.endswith(_OLD) and not target.exists():
            path.rename(target)  # killed between the two renames: the old folder is still the valid one
        elif path.name.endswith((_OLD, _PARTIAL)):
            shutil.rmtree(path, ignore_errors=True)


def _glob_escape(text: str) -> str:
    import glob

    return glob.escape(text)


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _set_modes(staging: Path) -> None:
    """Give files and folders the modes an ordinary open() and mkdir() give; safetensors writes 0600."""
    probe = staging / f".mode{_PARTIAL}"
    probe.touch()
    file_mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    folder_mode = stat.S_IMODE(staging.stat().st_mode)
    for root, folders, files in os.walk(staging):
        for name in folders:
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(folder_mode)
        for name in files:
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(file_mode)


def _flush(staging: Path) -> None:
    for root, _folders, files in os.walk(staging):
        for name in files:
            _fsync(Path(root, name))
        _fsync(Path(root))


def _fsync(path: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there, and read-only handles cannot be flushed
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap_in(staging: Path, target: Path) -> None:
    old = None
    if target.exists():
        old = target.parent / f"{_stem(target)}{_owner()}{secrets.token_hex(4)}{_OLD}"
        target.rename(old)
    try:
        staging.rename(target)
    except BaseException:
        if old is not None:
            old.rename(target)
        raise
    _fsync(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
