"""Whether each stage of a run file is consistent: its names, their order, its metrics and pairs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from distill_app_trainer.errors import Fix, MoveTable, ReplaceText, RunFileError, SetKey
from distill_app_trainer.runfile.kinds import DistillStage, EvaluateStage, ExportStage, MergeStage
from distill_app_trainer.runfile.references import (
    before,
    data_before,
    made_before,
    models_before,
    systems_of,
)
from distill_app_trainer.runfile.schema import RunConfig
from distill_app_trainer.runfile.stage import Stage, Task
from distill_app_trainer.spelling import did_you_mean, nearest

EXTRA_METRICS = ("accuracy", "nll")


def check_stage(config: RunConfig, name: str, stage: Stage) -> None:
    """Refuse a stage whose name is taken, or which names what is not there or what it cannot use.

    Raises:
        RunFileError: The first mistake: what was found, what is allowed, what corrects it.
    """
    _check_name(config, name, stage)
    _check_models(config, name, stage)
    data = data_before(config, name)
    for used in stage.uses_data():
        if used not in data:
            raise _unknown(config, (name, "data"), used, data, "data")
    if stage.kind in _OF_KIND:
        _OF_KIND[stage.kind](config, name, stage)


def check_likelihood(name: str, stage: Stage, task: Task) -> None:
    """Refuse ``nll`` where no words are hidden from masked models."""
    metrics: tuple[str, ...] = getattr(stage, "metrics", ())
    if "nll" in metrics and (task != "masked" or stage.kind != "evaluate"):
        others = [metric for metric in metrics if metric != "nll"] or ["exact_match"]
        raise RunFileError(
            f"stages.{name}.metrics: 'nll' is the likelihood of the words that an evaluate stage hides from "
            f"masked models, and this is an {stage.kind} stage of {task} ones. Leave it out.",
            fix=SetKey(("stages", name, "metrics"), others),
        )


def _check_name(config: RunConfig, name: str, stage: Stage) -> None:
    renamed = ReplaceText(("stages", name), name, f"{name}_stage")
    if name in config.models:
        raise RunFileError(
            f"{name!r} is the name of a model and of a stage; give the stage another name.", fix=renamed
        )
    if not name.replace("-", "_").isidentifier():
        valid = "stage_" + "".join(c if c.isalnum() else "_" for c in name)
        raise RunFileError(
            f"[stages.{name!r}]: use letters, digits, '_' and '-' in the name of a stage, and begin with a "
            "letter.",
            fix=ReplaceText(("stages", name), name, valid),
        )
    if stage.makes == "data" and name in config.data:
        raise RunFileError(
            f"{name!r} is the name of data and of a {stage.kind} stage; rename one of them.", fix=renamed
        )


def _check_models(config: RunConfig, name: str, stage: Stage) -> None:
    """Each model is there, and a fresh one is used only by the stage that trains it."""
    models = models_before(config, name)
    caches = made_before(config, name, "cache")
    for key, used in stage.uses_models():
        allowed = (*models, *caches) if key == "teacher" else models
        if used not in allowed:
            raise _unknown(config, (name, key), used, allowed, "model")
        if _is_fresh(config, used) and not (key == "model" and stage.training()):
            raise RunFileError(
                f"stages.{name}.{key} = {used!r} is a fresh model that nothing has trained yet. "
                "Name the stage that trains it.",
                fix=_trained(config, name, key, used),
            )


def _is_fresh(config: RunConfig, name: str) -> bool:
    return name in config.models and config.models[name].config is not None


def _trained(config: RunConfig, name: str, key: str, used: str) -> Fix | None:
    """The stage that trains a fresh model, if it can be named."""
    makers = [one for one, stage in before(config, name) if stage.training() and stage.parent() == used]
    others = [one for one in models_before(config, name) if not _is_fresh(config, one)]
    right = next(iter([*makers, *others]), None)
    return None if right is None else ReplaceText(("stages", name, key), f'"{used}"', f'"{right}"')


def _unknown(
    config: RunConfig, where: tuple[str, str], used: str, allowed: Iterable[str], what: str
) -> RunFileError:
    names, path = tuple(allowed), ("stages", *where)
    key = ".".join(path)
    if used in config.stages and used not in dict(before(config, where[0])):
        return RunFileError(
            f"{key} = {used!r} is not an earlier stage: stages run in the order of the file. Move it up.",
            fix=MoveTable(("stages", used), path[:2]),
        )
    said = f"is a stage that makes no {what}" if used in config.stages else f"is not the name of a {what}"
    usable = [name for name in names if not _is_fresh(config, name)] if what == "model" else names
    right = nearest(used, names) or next(iter(usable), None)
    return RunFileError(
        f"{key} = {used!r} {said}.{did_you_mean(used, names)} Allowed: {', '.join(names) or 'none'}.",
        fix=None if right is None else ReplaceText(path, f'"{used}"', f'"{right}"'),
    )


def _check_distill(config: RunConfig, name: str, stage: DistillStage) -> None:
    """A cache covers the same data, and teacher and student differ."""
    caches = made_before(config, name, "cache")
    if stage.teacher in caches:
        cached = config.stages[stage.teacher].uses_data()
        if cached != stage.uses_data():
            raise RunFileError(
                f"stages.{name}.data names {', '.join(stage.uses_data())}, but stages.{stage.teacher} caches "
                f"distributions over {', '.join(cached)}. They must be the same, in the same order.",
                fix=SetKey(("stages", name, "data"), cached),
            )
    if stage.teacher == stage.model:
        usable = (*caches, *models_before(config, name))
        others = [one for one in usable if one != stage.model and not _is_fresh(config, one)]
        raise RunFileError(
            f"stages.{name}: teacher and model are both {stage.model!r}; they must differ. Allowed: "
            f"{', '.join(others) or 'none yet'}.",
            fix=SetKey(("stages", name, "teacher"), others[0]) if others else None,
        )


def _check_merge(config: RunConfig, name: str, stage: MergeStage) -> None:
    """What is merged has to be an adapter."""
    trainer = config.stages.get(stage.model)
    trained = None if trainer is None else trainer.training()
    source = None if trained is None else config.models.get(trained.model)
    if trained is None or source is None or (source.config is None and source.adapter != "full"):
        return
    where = ("models", trained.model, "adapter")
    raise RunFileError(
        f"stages.{name}: {stage.model} trains all of {trained.model!r}, so there is no adapter to merge. "
        "Take the stage out, or train an adapter.",
        fix=SetKey(("stages", name), None) if source.config is not None else SetKey(where, "lora"),
    )


def _check_metrics(name: str, metrics: tuple[str, ...]) -> None:
    from distill_metrics import UnknownMetricError, check_metric_names

    path = ("stages", name, "metrics")
    try:
        check_metric_names(metrics, also=EXTRA_METRICS)
    except UnknownMetricError as error:
        right = error.suggestion or "exact_match"
        fix: Fix = (
            SetKey(path, [right]) if not metrics else ReplaceText(path, f'"{error.found}"', f'"{right}"')
        )
        raise RunFileError(f"stages.{name}.metrics: {error}", fix=fix) from None


def _check_export(config: RunConfig, name: str, stage: ExportStage) -> None:
    if not stage.metrics:
        return
    _check_metrics(name, stage.metrics)
    if stage.data is None:
        held_out = [one for one in data_before(config, name) if one != "train"]
        right = "test" if "test" in held_out else next(iter(held_out), "train")
        raise RunFileError(
            f"stages.{name}: metrics need data = the name of held-out data, such as 'test'.",
            fix=SetKey(("stages", name, "data"), right),
        )


def _check_evaluate(config: RunConfig, name: str, stage: EvaluateStage) -> None:
    _check_metrics(name, stage.metrics)
    path = ("stages", name, "compare")
    if not stage.systems:
        models = [one for one in models_before(config, name) if not _is_fresh(config, one)]
        raise RunFileError(
            f"stages.{name}.systems is empty; name at least one model or stage.",
            fix=SetKey(("stages", name, "systems"), models) if models else None,
        )
    systems = systems_of(config, stage.systems)
    for pair in stage.compare:
        for used in pair:
            if used not in systems:
                right = nearest(used, systems) or next((one for one in systems if one not in pair), None)
                raise RunFileError(
                    f"stages.{name}.compare: {used!r} is not one of its systems."
                    f"{did_you_mean(used, systems)} Allowed: {', '.join(systems)}.",
                    fix=SetKey(path, None) if right is None else ReplaceText(path, f'"{used}"', f'"{right}"'),
                )
        if pair[0] == pair[1]:
            others = [system for system in systems if system != pair[0]]
            raise RunFileError(
                f"stages.{name}.compare: {pair[0]!r} is compared with itself. Allowed beside it: "
                f"{', '.join(others) or 'none'}.",
                fix=ReplaceText(path, f'"{pair[0]}"', f'"{others[0]}"') if others else SetKey(path, None),
            )


_OF_KIND: Mapping[str, Callable[[RunConfig, str, Any], None]] = {
    "distill": _check_distill,
    "merge": _check_merge,
    "evaluate": _check_evaluate,
    "export": _check_export,
}
"""What has to be true of the stages of one kind alone."""
