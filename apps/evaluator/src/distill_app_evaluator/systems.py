"""What a folder holds and what its model does, read from its small files alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill_app_evaluator.errors import Fix, Option, Retype, UsageError
from distill_datakit.columns import TASKS, Task

Kind = Literal["model", "adapter", "export"]
Role = Literal["model", "teacher"]

_CERTIFICATE = "certificate.json"  # marks an export
_WEIGHTS = (".safetensors", ".bin", ".onnx", ".onnx_data")


@dataclass(frozen=True, kw_only=True)
class System:
    """A model to evaluate.

    Attributes:
        name: Its name in the results: the last parts of its path, as many as distinguish it from the others.
        path: The folder that holds it.
        kind: What the folder holds.
        task: The task of the model.
        role: ``"teacher"`` for the model that the others are measured against.
        base: The folder of an adapter's base model.
    """

    name: str
    path: Path
    kind: Kind
    task: Task
    role: Role = "model"
    base: Path | None = None

    @property
    def bytes(self) -> int:
        """Bytes of the weights, those of an adapter's base included."""
        folders = [self.path] if self.base is None else [self.path, self.base]
        files = (file for folder in folders for file in folder.iterdir() if file.suffix in _WEIGHTS)
        return sum(file.stat().st_size for file in files)


def find_systems(models: Sequence[str], teacher: str | None, task: Task | None) -> tuple[System, ...]:
    """Check each model and the teacher.

    Args:
        models: Folders.
        teacher: Another folder, or None.
        task: The task of models whose configuration does not name one, or has several.

    Raises:
        UsageError: A folder does not exist, is not a model, lacks weights, tokenizer or base, or is named
            twice; a task is unknown, or is not compatible with that of the other models.
    """
    if not models:
        raise UsageError("No model was named; give the folder of at least one.")
    given = [*models] if teacher is None else [*models, teacher]
    places = [Path(os.path.abspath(one)) for one in given]  # noqa: PTH100 - links keep their names
    for number, place in enumerate(places):
        if place in places[:number]:
            raise UsageError(
                f"{given[number]} is named twice; name each model once, the teacher too.",
                fix=_without(given, number, teacher),
            )
    systems = tuple(
        _system(name, model, task, "teacher" if number == len(models) else "model")
        for number, (name, model) in enumerate(zip(_names(places), given, strict=True))
    )
    masked = [one.name for one in systems if one.task == "masked"]
    if masked and len(masked) < len(systems):
        other = next(one for one in systems if one.task != "masked")
        apart = next(number for number, one in enumerate(systems) if one.task != systems[0].task)
        raise UsageError(
            f"{masked[0]} fills masks and {other.name} is {other.task}: they cannot answer the same rows. "
            "Evaluate them separately, or give --task.",
            fix=_without(given, apart, teacher),
        )
    return systems


def _without(given: Sequence[str], number: int, teacher: str | None) -> Fix:
    """The command line without one of the models, or without the teacher."""
    last = teacher is not None and number == len(given) - 1
    return Option("--teacher", None) if last else Retype(given[number], None)


def _names(places: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ."""
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    return names


def _system(name: str, model: str, task: Task | None, role: Role) -> System:
    from distill_adapters import ModelLoadError, is_hub_name, nearest_paths
    from distill_deploy import IntegrityError
    from distill_hwdetect import HardwareError

    folder = Path(model)
    try:
        kind, own, base = _look(folder)
    except (ModelLoadError, IntegrityError, HardwareError) as error:
        message = str(error) if isinstance(error, ModelLoadError) else f"{folder}: {error}"
        near = [str(one) for one in nearest_paths(folder, _is_usable)]
        if near:
            fix: Fix = Option("--teacher", near[0]) if role == "teacher" else Retype(model, near[0])
            raise UsageError(f"{message} The nearest model is {near[0]}.", fix=fix) from None
        raise UsageError(message, fix=_download(model) if is_hub_name(model) else None) from None
    if isinstance(base, str):
        raise UsageError(
            f"The base of {folder} is {base}, and there is no such folder. Download it with: "
            f"{_download(base)}",
            fix=_download(base),
        )
    task = own if kind == "export" else task or own
    if task is None:
        raise UsageError(
            f"The configuration of {folder} does not name a task; give --task {', '.join(TASKS)}.",
            fix=Option("--task", TASKS[0]),
        )
    return System(name=name, path=folder, kind=kind, task=task, role=role, base=base)


def _look(folder: Path) -> tuple[Kind, Task | None, Path | str | None]:
    """Kind, task and base of what a folder holds, in the words of the package that refuses it."""
    from distill_adapters import check_model_folder
    from distill_deploy import read_runtime_facts
    from distill_hwdetect import read_model_facts

    if (folder / _CERTIFICATE).is_file():
        return "export", read_runtime_facts(folder).task, None
    base = check_model_folder(folder, suggest=False).base
    if isinstance(base, str):
        return "adapter", None, base
    return "adapter" if base else "model", read_model_facts(base or folder).task, base


def _is_usable(folder: Path) -> bool:
    from distill_adapters import ModelLoadError
    from distill_deploy import IntegrityError
    from distill_hwdetect import HardwareError

    try:
        _, task, base = _look(folder)
    except (ModelLoadError, IntegrityError, HardwareError, OSError):
        return False
    return task is not None and not isinstance(base, str)


def _download(name: str) -> str:
    return f"hf download {name} --local-dir {name}"
