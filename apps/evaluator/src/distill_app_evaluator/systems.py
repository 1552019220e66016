"""What a folder holds and what its model does, read from its small files alone."""

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill_app_evaluator.errors import Fix, Option, Retype, UsageError
from distill_datakit.columns import TASKS, Task

Kind = Literal["model", "adapter", "export"]
Role = Literal["model", "teacher"]

_MARKS: tuple[tuple[str, Kind], ...] = (
    ("certificate.json", "export"),
    ("adapter_config.json", "adapter"),
    ("config.json", "model"),
)
_WEIGHTS = (".safetensors", ".bin", ".onnx", ".onnx_data")
_VOCABULARIES = ("tokenizer*", "vocab*", "*.model", "*.spm")


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
        return sum(file.stat().st_size for folder in folders for file in _weights(folder))


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


def neighbour(path: Path) -> tuple[str | None, str]:
    """An existing path with a similar name, and a hint to it."""
    if not path.parent.is_dir():
        return None, f" Nor is there a folder {path.parent}."
    near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    return (str(path.parent / near), f" Did you mean {path.parent / near}?") if near else (None, "")


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The most similar name, or None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(allowed), n=1)), None)


def _names(places: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ."""
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    return names


def _system(name: str, model: str, task: Task | None, role: Role) -> System:
    try:
        return _found(name, model, task, role)
    except UsageError as error:
        if error.fix is None and (whole := _whole_model_near(Path(model))) is not None:
            error.fix = Option("--teacher", whole) if role == "teacher" else Retype(model, whole)
        raise


def _found(name: str, model: str, task: Task | None, role: Role) -> System:
    from distill_adapters import ModelLoadError
    from distill_deploy import IntegrityError, read_runtime_facts
    from distill_hwdetect import HardwareError

    folder, kind = _folder(model)
    base = None
    try:
        if kind == "export":
            task = read_runtime_facts(folder).task
        else:
            base = _base_of(folder) if kind == "adapter" else None
            _check_files(folder, base or folder)
            task = task or _model_task(folder, base or folder)
    except (ModelLoadError, IntegrityError, HardwareError) as error:
        raise UsageError(f"{folder}: {error}") from None
    return System(name=name, path=folder, kind=kind, task=task, role=role, base=base)


def _whole_model_near(folder: Path) -> str | None:
    """A usable model inside a folder or beside it, the one with the nearest name first."""
    for above in (folder, *folder.parents):
        whole = [str(one) for one in sorted(above.iterdir()) if _is_whole(one)] if above.is_dir() else []
        if whole:
            return nearest(str(folder), whole) or whole[0]
    return None


def _is_whole(folder: Path) -> bool:
    try:
        return folder.is_dir() and bool(_found("", str(folder), None, "model"))
    except UsageError:
        return False


def _folder(model: str) -> tuple[Path, Kind]:
    folder = Path(model)
    if not folder.exists():
        (_, hint), fix = neighbour(folder), None
        if not hint and model.count("/") == 1:
            fix = f"hf download {model} --local-dir {folder.name}"
            hint = f" Download a model of the hub with: {fix}"
        raise UsageError(f"There is no folder {model}.{hint}", fix=fix)
    if not folder.is_dir():
        raise UsageError(f"{model} is a file; the folder of a model is needed.")
    for mark, kind in _MARKS:
        if (folder / mark).is_file():
            return folder, kind
    marks = ", ".join(mark for mark, _ in reversed(_MARKS))
    inside = [
        str(one)
        for one in sorted(folder.iterdir())
        if one.is_dir() and any((one / mark).is_file() for mark, _ in _MARKS)
    ]
    below = f" Models inside it: {', '.join(inside)}." if inside else ""
    raise UsageError(f"{model} is not a model: it holds none of {marks}.{below}")


def _weights(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if file.suffix in _WEIGHTS and file.is_file()]


def _check_files(folder: Path, source: Path) -> None:
    for place in dict.fromkeys((folder, source)):
        files = _weights(place)
        if not any(file.suffix == ".safetensors" for file in files):
            found = f"only {files[0].name}, a pickle, which is never loaded" if files else "no weights"
            raise UsageError(
                f"{place} holds {found}; *.safetensors is needed. Save the model again with save_pretrained."
            )
    if not any(any(place.glob(name)) for place in (folder, source) for name in _VOCABULARIES):
        raise UsageError(
            f"{source} holds no tokenizer (tokenizer.json or similar). "
            f"Save it beside the weights with tokenizer.save_pretrained({str(source)!r})."
        )


def _model_task(folder: Path, source: Path) -> Task:
    from distill_hwdetect import read_model_facts

    task = read_model_facts(source).task
    if task is None:
        raise UsageError(
            f"The configuration of {folder} does not name a task; give --task {', '.join(TASKS)}.",
            fix=Option("--task", TASKS[0]),
        )
    return task


def _base_of(adapter: Path) -> Path:
    from distill_adapters import adapter_base

    base = adapter_base(adapter)
    if isinstance(base, Path):
        return base
    fix = f"hf download {base} --local-dir {base}"
    raise UsageError(
        f"The base of {adapter} is {base}, and there is no such folder. Download it with: {fix}", fix=fix
    )
