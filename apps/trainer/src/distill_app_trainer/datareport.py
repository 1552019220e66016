"""``distill-train data``: what is in a file, as a model would read it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from distill_app_trainer.config import Task
from distill_app_trainer.errors import RunFileError, nearest
from distill_app_trainer.hub import described, is_hub_name

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
    from distill_datakit import inspect_columns

    path = Path(file)
    if not is_hub_name(file) and not path.exists():
        near = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise RunFileError(f"There is no file {file}.{nearest(path.name, near)}")
    pairs = [text.partition("=") for text in columns]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise RunFileError(f"--column {ours}: OURS=THEIRS is needed, such as source=question.")
        if path.exists() and theirs not in (found := inspect_columns(path)):
            raise RunFileError(f"--column {ours}={theirs}: {file} has {', '.join(found)}.")
    folder = described(model, "--model")
    if not (folder / "tokenizer_config.json").is_file():
        raise RunFileError(f"--model {model}: there is no tokenizer in {folder}. Name a folder that has one.")
    chosen = _task(folder, task)

    from distill_app_trainer.quiet import quieten_libraries
    from distill_app_trainer.stages import load_tokenizer
    from distill_datakit import check

    quieten_libraries()
    found_report = check(
        file,
        load_tokenizer(folder),
        chosen,
        columns={ours: theirs for ours, _, theirs in pairs} or None,
        max_source_length=limits[0],
        max_target_length=limits[1],
    )
    if as_json:
        print(json.dumps(found_report.to_dict(), default=str))
    else:
        print(found_report.render(colour=sys.stdout.isatty()))
    return found_report.ok


def _task(folder: Path, task: str) -> Task:
    from distill_hwdetect import HardwareError, read_model_facts

    if task != "auto":
        if task not in _TASKS:
            raise RunFileError(
                f"--task {task}: allowed are auto, {', '.join(_TASKS)}.{nearest(task, _TASKS)}"
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
