"""What a folder holds and what its model does, read from its small files alone."""

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from distill_app_evaluator.errors import Fix, Option, Retype, UsageError

Task = Literal["causal", "seq2seq", "masked"]
Kind = Literal["model", "adapter", "export"]
Role = Literal["model", "teacher"]

TASKS: tuple[Task, ...] = get_args(Task)
_MARKS: tuple[tuple[str, Kind], ...] = (
    ("certificate.json", "export"),
    ("adapter_config.json", "adapter"),
    ("config.json", "model"),
)
_WEIGHTS = (".safetensors", ".bin", ".onnx", ".onnx_data")
_READABLE = (".jsonl", ".csv", ".tsv", ".parquet", ".gz")
_VOCABULARIES = ("tokenizer*", "vocab*", "*.model", "*.spm")


@dataclass(frozen=True, kw_only=True)
class System:
    """A model to evaluate.

    Attributes:
        name: What it is called in the result: the last parts of its path that tell it from the others.
        path: Its folder.
        kind: What the folder holds.
        task: What it does.
        role: ``"teacher"`` for the one that the others are measured against.
        base: Where the base of an adapter lies: a folder.
    """

    name: str
    path: Path
    kind: Kind
    task: Task
    role: Role = "model"
    base: Path | None = None

    @property
    def bytes(self) -> int:
        """Bytes of the weights; of an adapter, its base included."""
        folders = [self.path] if self.base is None else [self.path, self.base]
        return sum(file.stat().st_size for folder in folders for file in _weights(folder))


def find_systems(models: Sequence[str], teacher: str | None, task: Task | None) -> tuple[System, ...]:
    """Each model and the teacher, checked.

    Args:
        models: Folders.
        teacher: Another folder, or None.
        task: What models do whose configuration does not tell, or another of their tasks.

    Raises:
        UsageError: There is no such folder, it is no model, lacks weights, tokenizer or base, its task
            cannot be told or is of another kind than the others', or it is named twice.
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
    names = _names(places)
    systems = tuple(
        _system(name, model, task, "teacher" if number == len(models) else "model")
        for number, (name, model) in enumerate(zip(names, given, strict=True))
    )
    masked = [one.name for one in systems if one.task == "masked"]
    if masked and len(masked) < len(systems):
        other = next(one for one in systems if one.task != "masked")
        apart = next(number for number, one in enumerate(systems) if one.task != systems[0].task)
        raise UsageError(
            f"{masked[0]} fills masks and {other.name} is {other.task}: they cannot answer the same rows. "
            "Evaluate them apart, or give --task.",
            fix=_without(given, apart, teacher),
        )
    return systems


def _without(given: Sequence[str], number: int, teacher: str | None) -> Fix:
    """The command line without one of the models, or without the teacher."""
    last = teacher is not None and number == len(given) - 1
    return Option("--teacher", None) if last else Retype(given[number], None)


def neighbour(path: Path) -> str | None:
    """What lies there under a similar name."""
    if not path.parent.is_dir():
        return None
    near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    return None if near is None else str(path.parent / near)


def readable(path: Path) -> list[str]:
    """Files of examples that lie where a path points, or above."""
    above = next(place for place in path.parents if place.is_dir())
    return [str(one) for one in sorted(above.iterdir()) if one.is_file() and one.suffix in _READABLE]


def neighbours(path: Path) -> str:
    """A hint to what lies there under a similar name."""
    if not path.parent.is_dir():
        return f" Nor is there a folder {path.parent}."
    near = neighbour(path)
    return f" Did you mean {near}?" if near else ""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The most similar name, or None where none is similar."""
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
        if error.fix is None and (sound := _sound_beside(Path(model))) is not None:
            error.fix = Option("--teacher", sound) if role == "teacher" else Retype(model, sound)
        raise


def _found(name: str, model: str, task: Task | None, role: Role) -> System:
    folder, kind = _folder(model)
    base = None
    if kind == "export":
        told = _export_task(folder)
    else:
        source = folder
        if kind == "adapter":
            source = base = _base_of(folder)
        _check_files(folder, source)
        told = task or _model_task(folder, source)
    return System(name=name, path=folder, kind=kind, task=told, role=role, base=base)


def _sound_beside(folder: Path) -> str | None:
    """A whole model below a folder or beside it, the one of the nearest name first."""
    for above in (folder, *folder.parents):
        sound = [str(one) for one in sorted(above.iterdir()) if _is_sound(one)] if above.is_dir() else []
        if sound:
            return nearest(str(folder), sound) or sound[0]
    return None


def _is_sound(folder: Path) -> bool:
    try:
        return folder.is_dir() and bool(_found("", str(folder), None, "model"))
    except UsageError:
        return False


def _folder(model: str) -> tuple[Path, Kind]:
    folder = Path(model)
    if not folder.exists():
        hint, fix = neighbours(folder), None
        if not hint and model.count("/") == 1:
            fix = f"hf download {model} --local-dir {folder.name}"
            hint = f" A model of the hub is fetched with: {fix}"
        raise UsageError(f"There is no folder {model}.{hint}", fix=fix)
    if not folder.is_dir():
        raise UsageError(f"{model} is a file; the folder of a model is needed.")
    for mark, kind in _MARKS:
        if (folder / mark).is_file():
            return folder, kind
    marks = ", ".join(mark for mark, _ in reversed(_MARKS))
    raise UsageError(f"{model} is no model: it holds none of {marks}.{_inside(folder)}")


def _inside(folder: Path) -> str:
    """A hint to models one level below."""
    below = sorted(
        str(entry)
        for entry in folder.iterdir()
        if entry.is_dir() and any((entry / m).is_file() for m, _ in _MARKS)
    )
    return f" Models below it: {', '.join(below)}." if below else ""


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
            f"{source} holds no tokenizer (tokenizer.json or the like). "
            f"Save it beside the weights with tokenizer.save_pretrained({str(source)!r})."
        )


def _export_task(folder: Path) -> Task:
    found = _json(folder / "runtime.json").get("task")
    for task in TASKS:
        if found == task:
            return task
    raise UsageError(
        f"{folder / 'runtime.json'} names the task {found!r}; allowed: {', '.join(TASKS)}. Export it again."
    )


def _model_task(folder: Path, source: Path) -> Task:
    from distill_hwdetect import HardwareError, read_model_facts

    try:
        task = read_model_facts(source).task
    except HardwareError as error:
        raise UsageError(f"{folder}: {error}") from None
    if task is None:
        raise UsageError(
            f"The task of {folder} cannot be told; give --task causal, seq2seq or masked.",
            fix=Option("--task", "causal"),
        )
    return task


def _base_of(adapter: Path) -> Path:
    """The folder of an adapter's base: where it says, or beside it."""
    name = _json(adapter / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise UsageError(f"{adapter / 'adapter_config.json'} names no base_model_name_or_path.")
    for place in (Path(name), adapter / name):
        if place.is_dir():
            return place
    said, fix = "Put it back there.", None
    if not Path(name).is_absolute() and name.count("/") == 1:
        fix = f"hf download {name} --local-dir {name}"
        said = f"Fetch it with: {fix}"
    raise UsageError(f"The base of {adapter} is {name}, and there is no such folder. {said}", fix=fix)


def _json(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file.parent} lacks {file.name}; it is no whole folder.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as JSON: {error}.") from None
    return content if isinstance(content, dict) else {}
