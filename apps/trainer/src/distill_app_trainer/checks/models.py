"""The models that a run file names: whether they are there and suit each other."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from distill_adapters import (
    ModelLoadError,
    check_model_folder,
    is_hub_name,
    nearest_paths,
    tokenizer_vocabulary,
)
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
        folder = described(source.path, ".".join(keys))
        try:
            check_model_folder(folder, needs=["config"])
        except ModelLoadError as error:
            raise RunFileError(
                f"models.{name}.path: {error}", fix=_instead(keys, folder, error.suggestion)
            ) from None
    _check_tokenizer(config, name, source)


def _instead(keys: tuple[str, ...], wrong: Path, right: object) -> Fix | None:
    """Write another path in the run file, as far as the two differ: the file may name them from elsewhere."""
    if right is None:
        return None
    other = Path(str(right))
    common = Path(os.path.commonpath([wrong, other]))
    if common in (wrong, other):
        common = common.parent
    return ReplaceText(keys, str(wrong.relative_to(common)), str(other.relative_to(common)))


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
    folder = described(tokenizer, ".".join(keys))
    meant = nearest(folder.name, [other for other in config.models if other != name])
    try:
        check_model_folder(folder, needs=["tokenizer"], suggest=meant is None)
    except ModelLoadError as error:
        hint, fix = "", _instead(keys, folder, error.suggestion)
        if meant is not None:
            hint, fix = f" Did you mean the model {meant!r}?", ReplaceText(keys, folder.name, meant)
        raise RunFileError(f"models.{name}.tokenizer: {error}{hint}", fix=fix) from None


def check_tokenizers(config: RunConfig, name: str, stage: DistillStage) -> None:
    """Refuse a student whose tokenizer differs from its teacher's: their distributions do not compare."""
    teacher, student = (origin(config, one) for one in (stage.teacher, stage.model))
    theirs, ours = (
        tokenizer_vocabulary(described(tokenizer_of(config, one), "models")) for one in (teacher, student)
    )
    if theirs is None or ours is None or theirs == ours:
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
        except (HardwareError, ModelLoadError, OSError) as error:
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
        return _another_model(name, Path(source.path), lambda _: True)
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
    return _another_model(name, Path(path), lambda task: task == common)


def _another_model(name: str, path: Path, suits: Callable[[Task], bool]) -> Fix | None:
    """A model whose task suits, in place of one whose configuration is right."""
    from distill_hwdetect import ModelConfigError
    from distill_hwdetect import task_of as task_of_config

    def usable(folder: Path) -> bool:
        try:
            return suits(task_of_config(folder))
        except ModelConfigError:
            return False

    return _instead(("models", name, "path"), path, next(iter(nearest_paths(path, usable)), None))
