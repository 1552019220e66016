"""The folder of a run: never overwritten, and ``.partial`` in its name until the run is finished."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

from distill_app_trainer.config import RunConfig, to_toml

PARTIAL = ".partial"


def run_identity(config: RunConfig) -> str:
    """Six hex digits of configuration and data: the same run has the same."""
    digest = hashlib.sha256(to_toml(config).encode())
    for name, source in sorted(config.data.items()):
        digest.update(name.encode())
        path = Path(source.path)
        if path.is_file():
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:6]


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
        """Where the answers of a label stage lie."""
        return self.path / "data" / f"{name}.jsonl"

    def store(self, name: str) -> Path:
        """Where the distributions of a store stage lie."""
        return self.path / "data" / name

    def event(self, event: str, **facts: object) -> None:
        """Append one line to events.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}, default=str)
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


class RunFolder(RunPaths):
    """A folder made for one run.

    Attributes:
        final: What it will be called.
    """

    def __init__(self, config: RunConfig) -> None:
        base = Path(config.run.folder).expanduser().resolve()
        name = f"{config.run.name}-{run_identity(config)}"
        number = 1
        while True:
            self.final = base / (name if number == 1 else f"{name}-{number}")
            self.path = self.final.with_name(self.final.name + PARTIAL)
            number += 1
            if self.final.exists():
                continue
            try:
                self.path.mkdir(parents=True)
                break
            except FileExistsError:
                continue
        (self.path / "run.toml").write_text(to_toml(config), encoding="utf-8")

    def finish(self) -> Path:
        """Give the folder its final name; adapters on models of this run follow."""
        self.event("finished")
        for file in self.path.glob("models/*/adapter_config.json"):
            _move_base(file, {str(self.path): str(self.final)})
        self.path.rename(self.final)
        self.path = self.final
        return self.final


def _move_base(file: Path, moved: Mapping[str, str]) -> None:
    from distill_deploy import seal, verify

    content = json.loads(file.read_text(encoding="utf-8"))
    base = str(content.get("base_model_name_or_path", ""))
    for old, new in moved.items():
        if base.startswith(old):
            content["base_model_name_or_path"] = new + base.removeprefix(old)
            metadata = dict(verify(file.parent).metadata)
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            seal(file.parent, metadata=metadata)
