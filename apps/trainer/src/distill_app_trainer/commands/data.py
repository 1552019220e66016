"""``distill-train data``: what is in a file, as a model would read it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from distill_app_trainer.errors import Retype, RunFileError, near, nearest
from distill_app_trainer.runfile.hub import described, is_hub_name
from distill_app_trainer.runfile.schema import Task

_TASKS = ("causal", "seq2seq", "masked")


def print_data_report(
    file: str,
    model: str,
    task: str,
    columns: Sequence[str],
    limits: tuple[int | None, int | None],
    *,
    as_json: bool,
) -> bool:
    """Print what ``distill_datakit.check`` finds.

    Returns:
        Whether the data can be used as it is.

    Raises:
        RunFileError: There is no such file, model, task or column.
    """
    mapping = _checked(file, columns)
    folder = described(model, "--model")
    if not (folder / "tokenizer_config.json").is_file():
        beside = sorted(str(one.parent) for one in folder.parent.glob("*/tokenizer_config.json"))
        right = near(model, beside) or next(iter(beside), None)
        raise RunFileError(
            f"--model {model}: there is no tokenizer in {folder}. Name a folder that has one.",
            fix=None if right is None else Retype(model, right),
        )
    chosen = _task(folder, task)

    from distill_app_trainer.run.quiet import quieten_libraries
    from distill_app_trainer.stages.train import load_tokenizer
    from distill_datakit import check

    quieten_libraries()
    found_report = check(
        file,
        load_tokenizer(folder),
        chosen,
        columns=mapping or None,
        max_source_length=limits[0],
        max_target_length=limits[1],
    )
    if as_json:
        print(json.dumps(found_report.to_dict(), default=str))
    else:
        print(found_report.render(colour=sys.stdout.isatty()))
    return found_report.ok


def _checked(file: str, columns: Sequence[str]) -> dict[str, str]:
    """Our names of the columns of a file, which has to be there."""
    from distill_datakit import inspect_columns

    path = Path(file)
    if not is_hub_name(file) and not path.exists():
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        right = near(path.name, others)
        raise RunFileError(
            f"There is no file {file}.{nearest(path.name, others)}",
            fix=None if right is None else Retype(file, str(path.with_name(right))),
        )
    pairs = [text.partition("=") for text in columns]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise RunFileError(f"--column {ours}: OURS=THEIRS is needed, such as source=question.")
        if path.exists() and theirs not in (found := inspect_columns(path)):
            raise RunFileError(
                f"--column {ours}={theirs}: {file} has {', '.join(found)}.",
                fix=Retype(f"{ours}={theirs}", f"{ours}={near(theirs, found) or _first(ours, found)}"),
            )
    return {ours: theirs for ours, _, theirs in pairs}


def _first(ours: str, found: Sequence[str]) -> str:
    return ours if ours in found else found[0]


def _task(folder: Path, task: str) -> Task:
    from distill_hwdetect import HardwareError, read_model_facts

    if task != "auto":
        if task not in _TASKS:
            raise RunFileError(
                f"--task {task}: allowed are auto, {', '.join(_TASKS)}.{nearest(task, _TASKS)}",
                fix=Retype(task, near(task, _TASKS) or "auto"),
            )
        return cast("Task", task)
    try:
        found = read_model_facts(folder).task
    except (HardwareError, OSError):
        found = None
    if found is None:
        raise RunFileError(
            f"{folder} does not say what it does. Add --task {', '.join(_TASKS)}: one of them."
        )
    return found
