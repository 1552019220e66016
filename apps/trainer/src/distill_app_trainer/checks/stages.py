"""Everything that can be wrong with a run file and is found without loading a model: within a second."""

from collections.abc import Iterable

from distill_app_trainer.checks.data import check_columns, columns_of
from distill_app_trainer.checks.models import check_hardware, check_model, check_tokenizers, task_of
from distill_app_trainer.checks.room import check_extras
from distill_app_trainer.errors import Edit, Fix, Move, RunFileError, Setting, near, nearest
from distill_app_trainer.runfile.references import (
    before,
    data_before,
    is_split,
    models_before,
    stores_before,
    used_data,
    used_models,
    variants,
)
from distill_app_trainer.runfile.schema import (
    DistillStage,
    EvaluateStage,
    ExportStage,
    FinetuneStage,
    MergeStage,
    PseudoLabelStage,
    RunConfig,
    Stage,
    Task,
)

EXTRA_METRICS = ("accuracy", "nll")


def check_run(config: RunConfig) -> Task:
    """Check names, order, files, columns, metrics, tasks and extras; the task of the run when all is well.

    Raises:
        RunFileError: The first thing that is wrong: what was found, what is allowed, what mends it.
    """
    if not config.stages:
        model = next(iter(config.models), "")
        raise RunFileError(
            "[stages] is empty; add one, such as [stages.trained] with kind = 'finetune'.",
            fix=Setting(("stages", "trained"), {"kind": "finetune", "model": model}),
        )
    _check_names(config)
    for name, stage in config.stages.items():
        _check_references(config, name, stage)
        _check_metrics(config, name, stage)
    for name, source in config.models.items():
        check_model(config, name, source)
    columns = {name: columns_of(config, name) for name in config.data}
    if is_split(config):
        columns |= dict.fromkeys(("validation", "test"), columns["train"])
    task = task_of(config)
    for name, stage in config.stages.items():
        check_columns(config, name, stage, task, columns)
        _check_likelihood(name, stage, task)
        if isinstance(stage, DistillStage):
            check_tokenizers(config, name, stage)
    check_hardware(config)
    check_extras(config, task)
    return task


def _check_likelihood(name: str, stage: Stage, task: Task) -> None:
    """Likelihoods are of the words that an evaluate stage hides from masked models."""
    if not isinstance(stage, EvaluateStage | ExportStage) or "nll" not in stage.metrics:
        return
    if task != "masked" or isinstance(stage, ExportStage):
        others = [metric for metric in stage.metrics if metric != "nll"] or ["exact_match"]
        raise RunFileError(
            f"stages.{name}.metrics: 'nll' is the likelihood of the words that an evaluate stage hides from "
            f"masked models, and this is an {stage.kind} stage of {task} ones. Leave it out.",
            fix=Setting(("stages", name, "metrics"), others),
        )


def _check_names(config: RunConfig) -> None:
    for name in config.stages:
        if name in config.models:
            raise RunFileError(
                f"{name!r} is the name of a model and of a stage; give the stage another name.",
                fix=_renamed(name),
            )
        if not name.replace("-", "_").isidentifier():
            raise RunFileError(
                f"[stages.{name!r}]: use letters, digits, '_' and '-' in the name of a stage, and a letter "
                "first.",
                fix=Edit(("stages", name), name, "stage_" + "".join(c if c.isalnum() else "_" for c in name)),
            )
        if isinstance(config.stages[name], PseudoLabelStage) and name in config.data:
            raise RunFileError(
                f"{name!r} is the name of data and of a pseudo_label stage; rename one of them.",
                fix=_renamed(name),
            )


def _renamed(stage: str) -> Edit:
    return Edit(("stages", stage), stage, f"{stage}_stage")


def _check_references(config: RunConfig, name: str, stage: Stage) -> None:
    models, data = models_before(config, name), data_before(config, name)
    stores = stores_before(config, name) if isinstance(stage, DistillStage) else ()
    for key, used in used_models(stage):
        allowed = (*models, *stores) if key == "teacher" else models
        if used not in allowed:
            raise _unknown(config, (name, key), used, allowed, "model")
        fresh = used in config.models and config.models[used].config is not None
        if fresh and not (key == "model" and isinstance(stage, FinetuneStage | DistillStage)):
            raise RunFileError(
                f"stages.{name}.{key} = {used!r} is a fresh model that nothing has trained yet. "
                "Name the stage that trains it.",
                fix=_trained(config, name, key, used),
            )
    for used in used_data(stage):
        if used not in data:
            raise _unknown(config, (name, "data"), used, data, "data")
    if isinstance(stage, DistillStage) and stage.teacher in stores:
        _check_store(config, name, stage)
    if isinstance(stage, DistillStage) and stage.teacher == stage.model:
        others = [one for one in (*stores, *models) if one != stage.model and not _is_fresh(config, one)]
        raise RunFileError(
            f"stages.{name}: teacher and model are both {stage.model!r}; they must differ. Allowed: "
            f"{', '.join(others) or 'none yet'}.",
            fix=Setting(("stages", name, "teacher"), others[0]) if others else None,
        )
    if isinstance(stage, MergeStage):
        _check_merge(config, name, stage)


def _check_merge(config: RunConfig, name: str, stage: MergeStage) -> None:
    """What is merged has to be an adapter."""
    source = config.models.get(stage.model)
    trainer = config.stages.get(stage.model)
    if isinstance(trainer, FinetuneStage | DistillStage):
        source = config.models.get(trainer.model)
        where = ("models", trainer.model, "adapter")
        if source is not None and (source.config is not None or source.adapter == "full"):
            raise RunFileError(
                f"stages.{name}: {stage.model} trains all of {trainer.model!r}, so there is no adapter to "
                "merge. Take the stage out, or train an adapter.",
                fix=Setting(("stages", name), None) if source.config is not None else Setting(where, "lora"),
            )


def _is_fresh(config: RunConfig, name: str) -> bool:
    return name in config.models and config.models[name].config is not None


def _trained(config: RunConfig, name: str, key: str, used: str) -> Fix | None:
    """The stage that trains a fresh model, if it can be named."""
    makers = [
        one
        for one, stage in before(config, name)
        if isinstance(stage, FinetuneStage | DistillStage) and stage.model == used
    ]
    others = [one for one in models_before(config, name) if not _is_fresh(config, one)]
    right = next(iter([*makers, *others]), None)
    return None if right is None else Edit(("stages", name, key), f'"{used}"', f'"{right}"')


def _check_store(config: RunConfig, name: str, stage: DistillStage) -> None:
    store = config.stages[stage.teacher]
    if used_data(store) != used_data(stage):
        raise RunFileError(
            f"stages.{name}.data names {', '.join(used_data(stage))}, but stages.{stage.teacher} stores "
            f"distributions over {', '.join(used_data(store))}. They must be the same, in the same order.",
            fix=Setting(("stages", name, "data"), used_data(store)),
        )


def _unknown(
    config: RunConfig, where: tuple[str, str], used: str, allowed: Iterable[str], what: str
) -> RunFileError:
    names, path = tuple(allowed), ("stages", *where)
    key = ".".join(path)
    if used in config.stages and used not in dict(before(config, where[0])):
        return RunFileError(
            f"{key} = {used!r} is no earlier stage: stages run in the order of the file. Move it up.",
            fix=Move(("stages", used), path[:2]),
        )
    said = f"is a stage that makes no {what}" if used in config.stages else f"is no {what} here"
    usable = [name for name in names if not _is_fresh(config, name)] if what == "model" else names
    right = near(used, names) or next(iter(usable), None)
    return RunFileError(
        f"{key} = {used!r} {said}.{nearest(used, names)} Allowed: {', '.join(names) or 'none'}.",
        fix=None if right is None else Edit(path, f'"{used}"', f'"{right}"'),
    )


def _check_metrics(config: RunConfig, name: str, stage: Stage) -> None:
    from distill_metrics import METRIC_NAMES, UnknownMetricError, check_metric_names

    if not isinstance(stage, EvaluateStage | ExportStage):
        return
    allowed = (*METRIC_NAMES, *EXTRA_METRICS)
    if stage.metrics or isinstance(stage, EvaluateStage):
        try:
            check_metric_names(stage.metrics, allowed=allowed)
        except UnknownMetricError as error:
            raise RunFileError(
                f"stages.{name}.metrics: {error}", fix=_metric_fix(name, stage.metrics, allowed)
            ) from None
    if isinstance(stage, ExportStage) and stage.metrics and stage.data is None:
        held_out = [one for one in data_before(config, name) if one != "train"]
        raise RunFileError(
            f"stages.{name}: metrics need data = the name of held-out data, such as 'test'.",
            fix=Setting(
                ("stages", name, "data"), "test" if "test" in held_out else next(iter(held_out), "train")
            ),
        )
    if isinstance(stage, EvaluateStage):
        _check_pairs(config, name, stage)


def _metric_fix(name: str, metrics: Iterable[str], allowed: tuple[str, ...]) -> Fix:
    path = ("stages", name, "metrics")
    wrong = next((metric for metric in metrics if metric not in allowed), None)
    if wrong is None:
        return Setting(path, ["exact_match"])
    return Edit(path, f'"{wrong}"', f'"{near(wrong, allowed) or "exact_match"}"')


def _check_pairs(config: RunConfig, name: str, stage: EvaluateStage) -> None:
    path = ("stages", name, "compare")
    if not stage.systems:
        models = [one for one in models_before(config, name) if not _is_fresh(config, one)]
        raise RunFileError(
            f"stages.{name}.systems is empty; name at least one model or stage.",
            fix=Setting(("stages", name, "systems"), models) if models else None,
        )
    systems = [system for one in stage.systems for system, _ in variants(config, one)]
    for pair in stage.compare:
        for used in pair:
            if used not in systems:
                right = near(used, systems) or next((one for one in systems if one not in pair), None)
                raise RunFileError(
                    f"stages.{name}.compare: {used!r} is none of its systems.{nearest(used, systems)} "
                    f"Allowed: {', '.join(systems)}.",
                    fix=Setting(path, None) if right is None else Edit(path, f'"{used}"', f'"{right}"'),
                )
        if pair[0] == pair[1]:
            others = [system for system in systems if system != pair[0]]
            raise RunFileError(
                f"stages.{name}.compare: {pair[0]!r} is compared with itself. Allowed beside it: "
                f"{', '.join(others) or 'none'}.",
                fix=Edit(path, f'"{pair[0]}"', f'"{others[0]}"') if others else Setting(path, None),
            )
