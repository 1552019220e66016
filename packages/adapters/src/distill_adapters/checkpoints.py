"""Checkpoints that are whole or not there: written, verified, found again, and removed."""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distill_adapters.errors import ResumeError

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"checkpoint-(\d+)")
# Read by transformers with weights_only=True; a manifest must list them.
_STATES = re.compile(r"(optimizer|scheduler|scaler)\.pt|rng_state(_\d+)?\.pth")
_NEVER_READ = ("training_args.bin",)
RUN = "run."


def checkpoints(folder: Path | str) -> list[Path]:
    """Folders named ``checkpoint-N``, the oldest first."""
    root = Path(folder)
    if not root.is_dir():
        return []
    found = [(int(match[1]), path) for path in root.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest_verified(folder: Path | str, facts: Mapping[str, str]) -> Path | None:
    """The newest checkpoint that verifies; damaged ones are skipped and named in the log.

    Args:
        folder: The output folder of a run.
        facts: What identifies the run; a checkpoint of another run is refused.

    Raises:
        ResumeError: The newest one that verifies belongs to another run; names the field that differs.
    """
    from distill_deploy import IntegrityError

    for path in reversed(checkpoints(folder)):
        try:
            metadata = verified(path)
        except (IntegrityError, NotADirectoryError) as error:
            _LOG.warning("skipped a damaged checkpoint: %s", error)
            continue
        check_run(path, metadata, facts)
        return path
    return None


def verified(path: Path) -> Mapping[str, str]:
    """Verify every byte of a checkpoint against its manifest, and return the manifest's metadata.

    Raises:
        IntegrityError: The checkpoint has no manifest, or a file differs from it.
        NotADirectoryError: There is no such folder.
    """
    from distill_deploy import verify

    states = [item.name for item in path.iterdir() if _STATES.fullmatch(item.name)] if path.is_dir() else []
    return verify(path, require_manifest=True, allow=states).metadata


def is_end(path: Path | str) -> bool:
    """Whether a checkpoint is that of the last step."""
    state = json.loads((Path(path) / "trainer_state.json").read_bytes())
    return bool(state["global_step"] >= state["max_steps"])


def check_run(path: Path, metadata: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Refuse a checkpoint of another run.

    Raises:
        ResumeError: A fact differs.
    """
    for name, value in facts.items():
        found = metadata.get(RUN + name)
        if found is not None and found != value:
            raise ResumeError(
                f"{path} was written with {name} = {found}, but this run has {value}. "
                "Continue with the same configuration, or choose another output_dir.",
                field=name,
                found=value,
                suggestion=found,
            )


@contextmanager
def written(target: Path, facts: Mapping[str, str]) -> Iterator[Path]:
    """Yield a folder in which transformers writes ``checkpoint-N``; seal it and rename it to ``target``.

    Args:
        target: ``.../checkpoint-N``.
        facts: What identifies the run, for the manifest.
    """
    from distill_deploy import staged

    metadata = {RUN + name: value for name, value in facts.items()}
    with staged(target, overwrite=True, metadata=metadata) as staging:
        yield staging
        inner = staging / target.name
        for item in sorted(inner.iterdir()):
            if item.name not in _NEVER_READ:
                item.rename(staging / item.name)
        shutil.rmtree(inner)


def rotate(folder: Path, *, keep: int | None, best: str | None) -> None:
    """Remove the oldest checkpoints. Each is renamed first, so that none is ever incomplete under its name.

    Args:
        folder: The output folder of a run.
        keep: Number of checkpoints that stay; None and 0 keep all.
        best: A checkpoint that stays in any case.
    """
    if not keep:
        return
    for old in checkpoints(folder)[:-keep]:
        if best is not None and Path(best).name == old.name:
            continue
        aside = old.with_name(f".{old.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        old.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
