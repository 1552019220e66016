"""The folder of a run: never overwritten, and ``.partial`` in its name until the run is finished."""

import hashlib
import itertools
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from distill_app_trainer.errors import ReplaceWord, RunFolderError
from distill_app_trainer.report.results import RunResults, from_dict, to_dict
from distill_app_trainer.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from distill_app_trainer.runfile.schema import RunConfig

PARTIAL, RUN_FILE, STATE, LOCK, PID = ".partial", "run.toml", "state.json", ".lock", "pid"


def run_identity(config: "RunConfig") -> str:
    """Six hex digits of configuration and data: the same run has the same."""
    from distill_app_trainer.runfile.read import to_toml

    digest = hashlib.sha256(to_toml(config).encode())
    for name, source in sorted(config.data.items()):
        digest.update(name.encode())
        path = Path(source.path)
        if path.is_file():
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:6]


def find_run(path: Path) -> Path:
    """The folder of a run, also by the name that it will have when it is finished.

    Raises:
        RunFolderError: There is none.
    """
    for candidate in (path, path.with_name(path.name + PARTIAL)):
        if (candidate / RUN_FILE).is_file():
            return candidate.resolve()
    others = [other.name for other in path.parent.glob("*") if (other / RUN_FILE).is_file()]
    listed = f" Runs in {path.parent}: {', '.join(sorted(others))}." if others else ""
    right = nearest(path.name, others)
    raise RunFolderError(
        f"{path} is not a run folder: it has no {RUN_FILE}.{did_you_mean(path.name, others)}{listed}",
        fix="distill-train list" if right is None else ReplaceWord(str(path), str(path.with_name(right))),
    )


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How far a run has come: names of finished jobs, their durations in seconds, and what they found."""

    finished: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    results: RunResults = field(default_factory=RunResults)


class RunPaths:
    """Where things lie in the folder of a run.

    Attributes:
        path: The folder, named ``.partial`` until the run is finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def model(self, name: str) -> Path:
        """Where a stage's model lies."""
        return self.path / "models" / name

    def export(self, name: str) -> Path:
        """Where a stage's export lies."""
        return self.path / "exports" / name

    def labels(self, name: str) -> Path:
        """Where the answers of a pseudo_label stage lie."""
        return self.path / "data" / f"{name}.jsonl"

    def cache(self, name: str) -> Path:
        """Where the distributions of a cache_teacher stage lie."""
        return self.path / "data" / name

    def event(self, event: str, **facts: object) -> None:
        """Append one line to events.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}, default=str)
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def save_state(self, state: RunState) -> None:
        """Keep what ``resume`` needs."""
        staged = self.path / f".{STATE}"
        staged.write_text(json.dumps(to_dict(state)), encoding="utf-8")
        staged.replace(self.path / STATE)

    def state(self) -> RunState:
        """What was kept last; empty at the beginning.

        Raises:
            RunFolderError: The file is damaged.
        """
        file = self.path / STATE
        if not file.is_file():
            return RunState()
        try:
            return from_dict(RunState, json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise RunFolderError(
                f"{file} is damaged: {error}. What this run had done is not known any more; run it again.",
                fix=f"distill-train run {self.path / RUN_FILE}",
            ) from None


class RunFolder(RunPaths):
    """The folder of one run; this process alone writes into it until ``finish`` or ``release``.

    Attributes:
        final: What it will be called.
    """

    def __init__(self, path: Path, final: Path, stem: str) -> None:
        super().__init__(path)
        self.final = final
        self._stem = stem
        self._lock = FileLock(path / LOCK, timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise RunFolderError(
                f"{path} is in use by the process {_text(path / PID)}. Wait for it, or end it first."
            ) from None
        (path / PID).write_text(f"{os.getpid()}\n", encoding="utf-8")

    @classmethod
    def new(cls, config: "RunConfig") -> "RunFolder":
        """Make the folder of a new run beside those of earlier ones."""
        from distill_app_trainer.runfile.read import to_toml

        base = Path(config.run.folder).expanduser().resolve()
        name = f"{config.run.name}-{run_identity(config)}"
        for number in itertools.count(1):
            final = base / (name if number == 1 else f"{name}-{number}")
            path = final.with_name(final.name + PARTIAL)
            if final.exists():
                continue
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            break
        (path / RUN_FILE).write_text(to_toml(config), encoding="utf-8")
        return cls(path, final, name)

    @classmethod
    def reopen(cls, path: Path, config: "RunConfig") -> "RunFolder":
        """Resume an unfinished run.

        Raises:
            RunFolderError: It is finished, in use, or its data has changed since.
        """
        final = path.with_name(path.name.removesuffix(PARTIAL))
        if final == path:
            raise RunFolderError(
                f"{path} is finished. See its report.html, or run its run.toml again.",
                fix=f"distill-train report {path}",
            )
        identity = f"{config.run.name}-{run_identity(config)}"
        if not final.name.startswith(identity):
            raise RunFolderError(
                f"{path} was begun with other data, and would now be called {identity}. "
                f"Run {path / RUN_FILE} again.",
                fix=f"distill-train run {path / RUN_FILE}",
            )
        return cls(path, final, identity)

    def unfinished(self) -> list[Path]:
        """Earlier runs of the same configuration and data that are not finished."""
        others = self.path.parent.glob(f"{self._stem}*{PARTIAL}")
        return sorted(other for other in others if other != self.path)

    def finish(self) -> Path:
        """Give the folder its final name."""
        self.event("finished")
        self.release()
        (self.path / STATE).unlink(missing_ok=True)
        self.path.rename(self.final)
        self.path = self.final
        return self.final

    def release(self) -> None:
        """Let other processes write into the folder."""
        self._lock.release()
        for name in (PID, LOCK):
            (self.path / name).unlink(missing_ok=True)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"
