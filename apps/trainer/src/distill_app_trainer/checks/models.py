"""The models that a run file names: whether they are there and suit each other."""

import json
from collections.abc import Mapping
from pathlib import Path

from distill_adapters import is_hub_name
from distill_app_trainer.errors import Fix, ReplaceText, RunFileError, SetKey
from distill_app_trainer.runfile.hub import described
from distill_app_trainer.runfile.kinds import DistillStage
from distill_app_trainer.runfile.references import origin, origin_name, tokenizer_of
from distill_app_trainer.runfile.schema import ModelSource, RunConfig
from distill_app_trainer.runfile.sizes import model_facts
from distill_app_trainer.runfile.stage import Task
from distill_app_trainer.spelling import did_you_mean, nearest


def check_model(config: RunConfig, name: str, source: ModelSource) -> None:
    """Refuse a model without configuration, and a tokenizer that is not there."""
    if source.path is not None:
        keys = ("models", name, "path")
        folder = _folder(keys, source.path)
        if not any((folder / mark).is_file() for mark in ("config.json", "adapter_config.json")):
            below = sorted(entry.parent.name for entry in folder.glob("*/config.json"))
            beside = sorted(entry.parent.name for entry in folder.parent.glob("*/config.json"))
            hint = f" Did you mean {str(folder / below[0])!r}?" if below else ""
            fix = ReplaceText(keys, folder.name, f"{folder.name}/{below[0]}") if below else None
            if not below and beside:
                hint = f" Models beside it: {', '.join(beside)}."
                fix = ReplaceText(keys, folder.name, nearest(folder.name, beside) or beside[0])
            raise RunFileError(
                f"models.{name}.path: {folder} is not a model: it holds neither config.json nor "
                f"adapter_config.json.{hint}",
                fix=fix,
            )
        _check_json(folder, name)
    _check_tokenizer(config, name, source)


def _check_json(folder: Path, name: str) -> None:
    """Refuse a configuration that is not valid JSON."""
    for mark in ("config.json", "adapter_config.json"):
        if (folder / mark).is_file():
            try:
                json.loads((folder / mark).read_text(encoding="utf-8"))
            except ValueError as error:
                raise RunFileError(
                    f"models.{name}: {folder / mark} is not valid JSON: {error}. It is truncated or "
                    "was edited; get the model again.",
                    fix=_another_model(("models", name, "path"), folder),
                ) from None


def _another_model(keys: tuple[str, ...], folder: Path) -> Fix | None:
    beside = sorted(one.parent.name for one in folder.parent.glob("*/config.json") if one.parent != folder)
    whole = [one for one in beside if _is_json(folder.parent / one / "config.json")]
    return ReplaceText(keys, folder.name, nearest(folder.name, whole) or whole[0]) if whole else None


def _is_json(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_text(encoding="utf-8")), dict)
    except ValueError:
        return False


def _check_tokenizer(config: RunConfig, name: str, source: ModelSource) -> None:
    tokenizer, keys = source.tokenizer, ("models", name, "tokenizer")
    if tokenizer is None:
        return
    if tokenizer in config.models:
        own = config.models[tokenizer].tokenizer
        if config.models[tokenizer].path is None and own in config.models:
            raise RunFileError(
                f"models.{name}.tokenizer = {tokenizer!r} takes its own tokenizer from {own!r}; name that.",
                fix=ReplaceText(keys, f'"{tokenizer}"', f'"{own}"'),
            )
        return
    others = [other for other in config.models if other != name]
    hint, right = did_you_mean(Path(tokenizer).name, others), nearest(Path(tokenizer).name, others)
    fix = None if right is None else ReplaceText(keys, Path(tokenizer).name, right)
    folder = _folder(keys, tokenizer, hint=hint, fix=fix)
    if not any((folder / mark).is_file() for mark in ("tokenizer.json", "tokenizer_config.json")):
        beside = sorted(one.parent.name for one in folder.parent.glob("*/tokenizer.json"))
        if fix is None and beside:
            hint = f" Tokenizers beside it: {', '.join(beside)}."
            fix = ReplaceText(keys, folder.name, nearest(folder.name, beside) or beside[0])
        raise RunFileError(f"models.{name}.tokenizer: {folder} holds no tokenizer.json.{hint}", fix=fix)


def _folder(keys: tuple[str, ...], path: str, *, hint: str = "", fix: Fix | None = None) -> Path:
    where = ".".join(keys)
    folder = described(path, where)
    if folder.is_dir():
        return folder
    if folder.exists():
        above = ReplaceText(keys, f"{folder.parent.name}/{folder.name}", folder.parent.name)
        inside = above if (folder.parent / "config.json").is_file() else None
        raise RunFileError(f"{where}: {folder} is a file; a folder is needed.", fix=inside)
    said, names = missing(folder)
    raise RunFileError(
        f"{where}: there is no folder {folder}.{hint or said}",
        fix=fix or (ReplaceText(keys, *names) if names else None),
    )


def missing(
    path: Path, suffixes: tuple[str, ...] = (), wanted: str = ""
) -> tuple[str, tuple[str, str] | None]:
    """What is there in place of a path that is not: a hint, and the wrong and the right part."""
    wrong = path
    while not wrong.parent.exists():
        wrong = wrong.parent
    names = sorted(entry.name for entry in wrong.parent.iterdir() if not entry.name.startswith("."))
    right = nearest(wrong.name, names)
    if right is not None:
        return f" Did you mean {right!r}?", (wrong.name, right)
    usable = [name for name in names if Path(name).suffix in suffixes] if suffixes else []
    above = f" Nor is there a folder {wrong}." if wrong != path else ""
    listed = f" There are: {', '.join(usable[:8])}." if usable else ""
    usable.sort(key=lambda name: not name.startswith(f"{wanted}."))
    return above + listed, (str(path.relative_to(wrong.parent)), usable[0]) if usable else None


def check_tokenizers(config: RunConfig, name: str, stage: DistillStage) -> None:
    """Refuse a student whose tokenizer differs from its teacher's: their distributions do not compare."""
    teacher, student = (origin(config, one) for one in (stage.teacher, stage.model))
    folders = [
        described(tokenizer_of(config, one), "models") / "tokenizer.json" for one in (teacher, student)
    ]
    if folders[0] == folders[1] or not all(folder.is_file() for folder in folders):
        return
    theirs, ours = (_vocabulary(folder) for folder in folders)
    if theirs == ours:
        return
    right, model = origin_name(config, stage.teacher), origin_name(config, stage.model)
    own = config.models[right].tokenizer
    fresh = student.config is not None
    todo = (
        "Give the student the teacher's."
        if fresh
        else "Let the teacher label texts in a pseudo_label stage, and fine-tune on those."
    )
    raise RunFileError(
        f"stages.{name}: {stage.teacher} and {stage.model} have different tokenizers ({len(theirs):,} and "
        f"{len(ours):,} entries), so their distributions do not compare. {todo}",
        fix=SetKey(("models", model, "tokenizer"), own if own in config.models else right) if fresh else None,
    )


def _vocabulary(file: Path) -> Mapping[str, int]:
    content = json.loads(file.read_text(encoding="utf-8"))
    found = content.get("model", {}).get("vocab", {})
    if not isinstance(found, dict):
        found = {
            str(entry[0] if isinstance(entry, list) else entry): index for index, entry in enumerate(found)
        }
    return {**found, **{token["content"]: token["id"] for token in content.get("added_tokens", [])}}


def check_hardware(config: RunConfig) -> None:
    """Refuse a key of ``[hardware]`` that is not a field of an execution policy."""
    from distill_hwdetect import POLICY_FIELDS

    for name in config.hardware:
        if name not in POLICY_FIELDS:
            right, keys = nearest(name, POLICY_FIELDS, cutoff=0.6), ("hardware", name)
            raise RunFileError(
                f"hardware.{name} is not a field of an execution policy."
                f"{did_you_mean(name, POLICY_FIELDS, cutoff=0.6)} Allowed: {', '.join(POLICY_FIELDS)}.",
                fix=SetKey(keys, None) if right is None else ReplaceText(keys, name, right),
            )


def task_of(config: RunConfig) -> Task:
    """What the models of a run do.

    Raises:
        RunFileError: They do different things, or not what was asked for, or do not say.
    """
    from distill_hwdetect import HardwareError
    from distill_hwdetect import task_of as task_of_config

    asked, keys = config.run.task, ("run", "task")
    found: dict[str, Task] = {}
    for name, source in config.models.items():
        try:
            facts = model_facts(config, source)
            if facts.task is None and asked == "auto":
                task_of_config(source.config or described(str(source.path), f"models.{name}"))  # says why
        except (HardwareError, OSError, json.JSONDecodeError) as error:
            raise RunFileError(f"models.{name}: {error}", fix=_sizeless(name, source)) from None
        if facts.task is not None:
            found[name] = facts.task
    for name, task in found.items():
        if asked not in ("auto", task) and not {asked, task} == {"causal", "masked"}:
            raise RunFileError(
                f"run.task = {asked!r}, but models.{name} is a {task} model. "
                f"Set run.task = {task!r}, or 'auto'.",
                fix=SetKey(keys, "auto"),
            )
    if asked != "auto":
        return asked
    tasks = dict.fromkeys(found.values())
    if len(tasks) > 1:
        kinds = {
            name: str((source.config or {}).get("model_type", "")) for name, source in config.models.items()
        }
        listed = ", ".join(
            f"{name}{kinds[name] and f' ({kinds[name]})'} is {task}" for name, task in found.items()
        )
        raise RunFileError(
            f"The models of one run must do the same task: {listed}.", fix=_same_task(config, found)
        )
    if not tasks:
        raise RunFileError(
            "The task cannot be read from the models; set run.task to 'causal', 'seq2seq' or 'masked'.",
            fix=SetKey(keys, "causal"),
        )
    return next(iter(tasks))


def _sizeless(name: str, source: ModelSource) -> Fix | None:
    """Another model in place of one whose configuration says too little."""
    if source.path is not None and not is_hub_name(source.path):
        return _another_model(("models", name, "path"), Path(source.path))
    kind = str((source.config or {}).get("model_type"))
    known = ("marian", "t5", "bart", "gpt2", "llama", "bert", "roberta")
    return ReplaceText(
        ("models", name, "config", "model_type"), f'"{kind}"', f'"{nearest(kind, known) or known[0]}"'
    )


def _same_task(config: RunConfig, found: Mapping[str, Task]) -> Fix | None:
    """A model of the task that most others have, in place of the one that differs."""
    tasks = list(found.values())
    common = max(dict.fromkeys(tasks), key=tasks.count)
    name = next(one for one, task in found.items() if task != common)
    used = {one for stage in config.stages.values() for _, one in stage.uses_models()}
    if name not in used | {source.tokenizer for source in config.models.values()}:
        return SetKey(("models", name), None)
    path = config.models[name].path
    if path is None:
        fresh = [config.models[one].config or {} for one, task in found.items() if task == common]
        kind = next((str(one["model_type"]) for one in fresh if "model_type" in one), None)
        return None if kind is None else SetKey(("models", name, "config", "model_type"), kind)
    from distill_hwdetect import HardwareError, read_model_facts

    for beside in sorted(Path(path).parent.glob("*/config.json")):
        try:
            if read_model_facts(beside.parent).task == common:
                return ReplaceText(("models", name, "path"), Path(path).name, beside.parent.name)
        except (HardwareError, ValueError):
            continue
    return None
