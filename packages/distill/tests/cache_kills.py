"""Kill the writing of a teacher's cache again and again: ``python cache_kills.py FOLDER KILLS [SEED]``.

Half the kills come at a file operation (each open, rename, link, ... is a point), half at a moment in time,
so inside writes as well. After each, nothing half may be believed and nothing sealed may be lost; what comes
out in the end is, byte for byte, what comes out without kills. test_cache_kills.py runs it with five kills.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from distill_deploy import verify
from distill_kd import CacheConfig, CachedTeacher, LiveTeacher, write_cache

EVENTS = ("open", "os.", "shutil.")  # of sys.audit: what touches files
CONFIG = CacheConfig(k=6, shard_tokens=30)


def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
    """Rows of one length."""
    ids = torch.tensor([row["input_ids"] for row in rows])
    return {"input_ids": ids, "labels": ids, "row_id": torch.tensor([row["row_id"] for row in rows])}


def make() -> Callable[[Path], object]:
    """A function that writes the cache of a tiny teacher into a folder."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=24, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=1
    )
    teacher = LiveTeacher(GPT2LMHeadModel(config))
    rows = [{"input_ids": torch.randint(0, 24, (7,)).tolist(), "row_id": index} for index in range(30)]
    return lambda folder: write_cache(teacher, rows, collate, folder, task="causal", config=CONFIG)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed(write: Callable[[Path], object], folder: Path, *, event: int = 0, after_s: float = 0.0) -> bool:
    """Write in a process of its own; kill it at its ``event``-th file operation, or after a time."""
    child = os.fork()
    if not child:
        if event:
            left = [event]

            def count(name: str, _: object) -> None:
                if name.startswith(EVENTS):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
        try:
            write(folder)
        finally:
            os._exit(0)
    if not event:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def events_of(write: Callable[[Path], object], folder: Path) -> int:
    """File operations of one undisturbed writing."""
    read, send = os.pipe()
    child = os.fork()
    if not child:
        seen = [0]

        def count(name: str, _: object) -> None:
            seen[0] += name.startswith(EVENTS)

        sys.addaudithook(count)
        write(folder)
        os.write(send, str(seen[0]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    shutil.rmtree(folder)
    return int(os.read(read, 32))


def sealed(folder: Path) -> dict[str, int]:
    """File number of every shard that is whole; one that has its name but is not whole is a failure."""
    found = {}
    for place in folder.with_name(f"{folder.name}.unfinished").glob("shard-*"):
        verify(place, require_manifest=True)
        found.update({path.name: path.stat().st_ino for path in place.glob("*.safetensors")})
    return found


def campaign(root: Path, kills: int, seed: int = 0) -> str:
    """Kill ``kills`` times; raises AssertionError at the first thing that is not as promised."""
    chance = random.Random(seed)
    write = make()
    write(root / "whole")
    truth = contents(root / "whole")
    events = events_of(write, root / "counted")
    begun = time.monotonic()
    write(root / "timed")
    took = time.monotonic() - begun
    folder, hit, finished, resumed = root / "cache", 0, 0, 0
    while hit < kills:
        plan: dict[str, Any] = (
            {"event": chance.randint(1, events)} if hit % 2 else {"after_s": chance.random() * took}
        )
        hit += killed(write, folder, **plan)
        if folder.exists():  # it is whole, or it would not be there
            CachedTeacher(folder)
            assert contents(folder) == truth
        kept = {} if folder.exists() else sealed(folder)
        if chance.random() < 0.5:  # else the next kill meets what this one left
            resumed += bool(kept)
            write(folder)
            assert contents(folder) == truth
            assert {name: (folder / name).stat().st_ino for name in kept} == kept
            assert not folder.with_name(f"{folder.name}.unfinished").exists()
            shutil.rmtree(folder)
            finished += 1
    write(folder)
    assert contents(folder) == truth
    return (
        f"{hit} kills ({events} file operations, {took:.2f} s a writing), {finished} finished in between, "
        f"{resumed} of them from whole shards: every cache equal byte for byte, nothing partly accepted"
    )


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    print(campaign(place, int(sys.argv[2]), *map(int, sys.argv[3:])))
