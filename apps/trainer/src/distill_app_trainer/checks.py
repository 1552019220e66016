"""Everything that can be wrong with a run file and is found without loading a model: within a second."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from distill_app_trainer.config import (
    DistillStage,
    EvaluateStage,
    ExportStage,
    FinetuneStage,
    LabelStage,
    ModelSource,
    RunConfig,
    Stage,
    StoreStage,
    Task,
)
from distill_app_trainer.errors import RunFileError, nearest
from distill_app_trainer.hub import described
from distill_app_trainer.references import (
    before,
    data_before,
    is_split,
    models_before,
    stores_before,
    used_data,
    used_models,
    variants,
)

INPUTS = ("source", "prompt", "text", "messages")
TARGETS = ("target", "completion")
NEEDED: Mapping[Task, tuple[tuple[str, ...], ...]] = {
    "seq2seq": (("source", "target"), ("prompt", "completion")),
    "causal": (("prompt", "completion"), ("source", "target"), ("messages",), ("text",)),
    "masked": (("text",), ("target",)),
}
EXTRA_METRICS = ("accuracy",)


def check_run(config: RunConfig) -> Task:
    """Check names, order, files, columns, metrics and tasks; the task of the run when all is well.

    Raises:
        RunFileError: The first thing that is wrong: what was found, what is allowed, the nearest name.
    """
    if not config.stages:
        raise RunFileError("[stages] is empty; add one, such as [stages.trained] with kind = 'finetune'.")
    _check_names(config)
    for name, stage in config.stages.items():
        _check_references(config, name, stage)
        _check_metrics(config, name, stage)
    for name, source in config.models.items():
        _check_model(config, name, source)
    columns = {name: _columns(config, name) for name in config.data}
    if is_split(config):
        columns |= dict.fromkeys(("validation", "test"), columns["train"])
    task = _task(config)
    for name, stage in config.stages.items():
        _check_columns(name, stage, task, columns)
    return task


def _check_names(config: RunConfig) -> None:
    for name in config.stages:
        if name in config.models:
            raise RunFileError(
                f"{name!r} is the name of a model and of a stage; give the stage another name."
            )
        if not name.replace("-", "_").isidentifier():
            raise RunFileError(f"[stages.{name!r}]: use letters, digits, '_' and '-' in the name of a stage.")
        if isinstance(config.stages[name], LabelStage) and name in config.data:
            raise RunFileError(f"{name!r} is the name of data and of a label stage; rename one of them.")


def _check_references(config: RunConfig, name: str, stage: Stage) -> None:
    models, data = models_before(config, name), data_before(config, name)
    stores = stores_before(config, name) if isinstance(stage, DistillStage) else ()
    for key, used in used_models(stage):
        allowed = (*models, *stores) if key == "teacher" else models
        if used not in allowed:
            raise RunFileError(_unknown(config, f"stages.{name}.{key}", used, allowed, "model"))
        fresh = used in config.models and config.models[used].config is not None
        if fresh and not (key == "model" and isinstance(stage, FinetuneStage | DistillStage)):
            raise RunFileError(
                f"stages.{name}.{key} = {used!r} is a fresh model that nothing has trained yet. "
                "Name the stage that trains it."
            )
    for used in used_data(stage):
        if used not in data:
            raise RunFileError(_unknown(config, f"stages.{name}.data", used, data, "data"))
    if isinstance(stage, DistillStage) and stage.teacher in stores:
        _check_store(config, name, stage)
    if isinstance(stage, DistillStage) and stage.teacher == stage.model:
        raise RunFileError(f"stages.{name}: teacher and model are both {stage.model!r}; they must differ.")


def _check_store(config: RunConfig, name: str, stage: DistillStage) -> None:
    store = config.stages[stage.teacher]
    if used_data(store) != used_data(stage):
        raise RunFileError(
            f"stages.{name}.data names {', '.join(used_data(stage))}, but stages.{stage.teacher} stores "
            f"distributions over {', '.join(used_data(store))}. They must be the same, in the same order."
        )


def _unknown(config: RunConfig, where: str, used: str, allowed: Iterable[str], what: str) -> str:
    names = tuple(allowed)
    if used in config.stages and used not in dict(before(config, where.split(".")[1])):
        return f"{where} = {used!r} is no earlier stage: stages run in the order of the file. Move it up."
    if used in config.stages:
        return f"{where} = {used!r} is a stage that makes no {what}. Allowed: {', '.join(names)}."
    listed = ", ".join(names) or "none"
    return f"{where} = {used!r} is no {what} here.{nearest(used, names)} Allowed: {listed}."


def _check_metrics(config: RunConfig, name: str, stage: Stage) -> None:
    from distill_metrics import METRIC_NAMES, UnknownMetricError, check_metric_names

    if not isinstance(stage, EvaluateStage | ExportStage):
        return
    if stage.metrics or isinstance(stage, EvaluateStage):
        try:
            check_metric_names(stage.metrics, allowed=(*METRIC_NAMES, *EXTRA_METRICS))
        except UnknownMetricError as error:
            raise RunFileError(f"stages.{name}.metrics: {error}") from None
    if isinstance(stage, ExportStage) and stage.metrics and stage.data is None:
        raise RunFileError(f"stages.{name}: metrics need data = the name of held-out data, such as 'test'.")
    if isinstance(stage, EvaluateStage):
        if not stage.systems:
            raise RunFileError(f"stages.{name}.systems is empty; name at least one model or stage.")
        systems = [system for one in stage.systems for system, _ in variants(config, one)]
        for pair in stage.compare:
            for used in pair:
                if used not in systems:
                    raise RunFileError(
                        f"stages.{name}.compare: {used!r} is none of its systems."
                        f"{nearest(used, systems)} "
                        f"Allowed: {', '.join(systems)}."
                    )
            if pair[0] == pair[1]:
                raise RunFileError(f"stages.{name}.compare: {pair[0]!r} is compared with itself.")


def _check_model(config: RunConfig, name: str, source: ModelSource) -> None:
    if source.path is not None:
        folder = _folder(f"models.{name}.path", source.path)
        if not any((folder / mark).is_file() for mark in ("config.json", "adapter_config.json")):
            below = sorted(str(entry.parent) for entry in folder.glob("*/config.json"))
            hint = f" Did you mean {below[0]!r}?" if below else ""
            raise RunFileError(
                f"models.{name}.path: {folder} is no model: it holds neither config.json nor "
                f"adapter_config.json.{hint}"
            )
    tokenizer = source.tokenizer
    if tokenizer is None:
        return
    if tokenizer in config.models:
        if config.models[tokenizer].path is None:
            own = config.models[tokenizer].tokenizer
            if own in config.models:
                raise RunFileError(f"models.{name}.tokenizer = {tokenizer!r} only points on; name {own!r}.")
        return
    hint = nearest(Path(tokenizer).name, [other for other in config.models if other != name])
    folder = _folder(f"models.{name}.tokenizer", tokenizer, hint=hint)
    if not any((folder / mark).is_file() for mark in ("tokenizer.json", "tokenizer_config.json")):
        raise RunFileError(f"models.{name}.tokenizer: {folder} holds no tokenizer.json.{hint}")


def _folder(where: str, path: str, *, hint: str = "") -> Path:
    folder = described(path, where)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise RunFileError(f"{where}: {folder} is a file; a folder is needed.")
    raise RunFileError(f"{where}: there is no folder {folder}.{hint or _neighbour(folder)}")


def _neighbour(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f" Nor is there a folder {parent}."
    return nearest(path.name, [entry.name for entry in parent.iterdir()])


def _columns(config: RunConfig, name: str) -> tuple[str, ...]:
    from distill_datakit import DataError, inspect_columns

    source = config.data[name]
    path = Path(source.path)
    if not path.exists():
        raise RunFileError(f"data.{name}: there is no file {path}.{_neighbour(path)}")
    try:
        found = inspect_columns(path)
    except (DataError, OSError) as error:
        raise RunFileError(f"data.{name}: {error}") from None
    for ours, theirs in source.columns.items():
        if theirs not in found:
            raise RunFileError(
                f"data.{name}.columns.{ours} = {theirs!r}: {path.name} has no such column."
                f"{nearest(theirs, found)} It has: {', '.join(found)}."
            )
    renamed = {theirs: ours for ours, theirs in source.columns.items()}
    return tuple(renamed.get(column, column) for column in found)


def _check_columns(name: str, stage: Stage, task: Task, columns: Mapping[str, tuple[str, ...]]) -> None:
    for used in used_data(stage):
        if used not in columns:
            continue  # a label stage, whose columns are ours
        found = columns[used]
        inputs = any(column in found for column in INPUTS)
        if isinstance(stage, FinetuneStage | DistillStage | StoreStage):
            shapes = NEEDED[task]
        elif isinstance(stage, LabelStage) or (isinstance(stage, ExportStage) and not stage.metrics):
            shapes = tuple((column,) for column in INPUTS)
        elif task == "masked":
            shapes = (("text",),)
        else:
            shapes = tuple((right,) for right in ("references", *TARGETS)) if inputs else ((INPUTS[0],),)
        if any(all(column in found for column in shape) for shape in shapes):
            continue
        wanted = " or ".join(" and ".join(shape) for shape in shapes)
        close = next(
            (f" Did you mean {column!r} by {other!r}?" for column in dict.fromkeys(sum(shapes, ()))
             if column not in found for other in found if nearest(column, [other])), ""
        )  # fmt: skip
        raise RunFileError(
            f"data.{used} has no column for stages.{name} ({stage.kind}, {task}): {wanted} is needed, found "
            f"{', '.join(found)}.{close} Map other names with columns = {{ source = 'their name' }}."
        )


def _task(config: RunConfig) -> Task:
    from distill_app_trainer.planning import model_facts
    from distill_hwdetect import HardwareError

    asked = config.run.task
    found: dict[str, Task] = {}
    for name, source in config.models.items():
        try:
            facts = model_facts(config, source)
        except (HardwareError, OSError, json.JSONDecodeError) as error:
            raise RunFileError(f"models.{name}: {error}") from None
        if facts.task is not None:
            found[name] = facts.task
    for name, task in found.items():
        if asked not in ("auto", task) and not {asked, task} == {"causal", "masked"}:
            raise RunFileError(
                f"run.task = {asked!r}, but models.{name} is a {task} model. "
                f"Set run.task = {task!r}, or 'auto'."
            )
    if asked != "auto":
        return asked
    tasks = dict.fromkeys(found.values())
    if len(tasks) > 1:
        listed = ", ".join(f"{name} is {task}" for name, task in found.items())
        raise RunFileError(f"The models of one run must do the same task: {listed}.")
    if not tasks:
        raise RunFileError(
            "The task cannot be read from the models; set run.task to 'causal', 'seq2seq' or 'masked'."
        )
    return next(iter(tasks))
