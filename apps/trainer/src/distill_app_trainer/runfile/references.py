"""What the names in a run file stand for: models, earlier stages, data."""

import math
from collections.abc import Iterator, Mapping

from distill_app_trainer.runfile.schema import (
    CacheTeacherStage,
    DistillStage,
    EvaluateStage,
    ExportStage,
    FinetuneStage,
    MergeStage,
    ModelSource,
    PseudoLabelStage,
    RunConfig,
    Stage,
)

MODEL_STAGES = (FinetuneStage, DistillStage, MergeStage)
SPLIT_NAMES = ("train", "validation", "test")


def is_split(config: RunConfig) -> bool:
    """Whether ``train`` alone is given and is parted into train, validation and test."""
    return "train" in config.data and not {"validation", "test"} & set(config.data)


def file_names(config: RunConfig) -> tuple[str, ...]:
    """Names of data that come from files, the parts of a split file included."""
    parts = SPLIT_NAMES if is_split(config) else ()
    return tuple(dict.fromkeys((*config.data, *parts)))


def data_before(config: RunConfig, stage: str) -> tuple[str, ...]:
    """Names of data that a stage may use: files and the pseudo_label stages before it."""
    return (
        *file_names(config),
        *(name for name, one in before(config, stage) if isinstance(one, PseudoLabelStage)),
    )


def models_before(config: RunConfig, stage: str) -> tuple[str, ...]:
    """Names of models that a stage may use: those of the file and the stages before it that make one."""
    return (*config.models, *(name for name, one in before(config, stage) if isinstance(one, MODEL_STAGES)))


def stores_before(config: RunConfig, stage: str) -> tuple[str, ...]:
    """Names of the cache_teacher stages before a stage."""
    return tuple(name for name, one in before(config, stage) if isinstance(one, CacheTeacherStage))


def before(config: RunConfig, stage: str) -> Iterator[tuple[str, Stage]]:
    """The stages that stand before one."""
    for name, one in config.stages.items():
        if name == stage:
            return
        yield name, one


def origin(config: RunConfig, name: str) -> ModelSource:
    """The model of the file from which a model or stage descends; the names have been checked."""
    while name not in config.models:
        stage = config.stages[name]
        assert isinstance(stage, (*MODEL_STAGES, CacheTeacherStage))  # noqa: S101 - check_run has made sure
        name = stage.model
    return config.models[name]


def teacher_of(config: RunConfig, system: str) -> str | None:
    """The model or stage that a distilled system learnt from, also through what was stored of it."""
    for name, stage in config.stages.items():
        if isinstance(stage, DistillStage) and system in {one for one, _ in variants(config, name)}:
            store = config.stages.get(stage.teacher)
            return store.model if isinstance(store, CacheTeacherStage) else stage.teacher
    return None


def tokenizer_of(config: RunConfig, source: ModelSource) -> str:
    """The folder of the tokenizer of a model of the file."""
    named = source.tokenizer
    if named is not None and named in config.models:
        return tokenizer_of(config, config.models[named])
    found = named or source.path
    assert found is not None  # noqa: S101 - ModelSource has made sure
    return found


def used_models(stage: Stage) -> tuple[tuple[str, str], ...]:
    """``(key, name)`` of every model that a stage names."""
    if isinstance(stage, DistillStage):
        return (("model", stage.model), ("teacher", stage.teacher))
    if isinstance(stage, FinetuneStage | PseudoLabelStage | CacheTeacherStage | MergeStage | ExportStage):
        return (("model", stage.model),)
    if isinstance(stage, EvaluateStage):
        return tuple(("systems", name) for name in stage.systems)
    return ()


def used_data(stage: Stage) -> tuple[str, ...]:
    """Every name of data that a stage names."""
    if isinstance(stage, FinetuneStage | DistillStage | PseudoLabelStage | CacheTeacherStage):
        return (stage.data,) if isinstance(stage.data, str) else stage.data
    if isinstance(stage, EvaluateStage | ExportStage) and stage.data is not None:
        return (stage.data,)
    return ()


def count_rows(config: RunConfig, names: str | tuple[str, ...], rows: Mapping[str, int]) -> int:
    """Rows under some names, those that a pseudo_label stage is still to make included.

    Args:
        config: The run.
        names: Of data.
        rows: Of its files by name.
    """
    total = 0
    for name in (names,) if isinstance(names, str) else names:
        stage = config.stages.get(name)
        total += (
            count_rows(config, stage.data, rows) if isinstance(stage, PseudoLabelStage) else rows.get(name, 0)
        )
    return total


def count_steps(config: RunConfig, stage: FinetuneStage | DistillStage, rows: Mapping[str, int]) -> int:
    """Optimizer steps of a stage, for as many rows as there will be."""
    train = stage.train
    if train.steps is not None:
        return train.steps
    return math.ceil((train.epochs or 3) * count_rows(config, stage.data, rows) / train.batch_size)


def variants(config: RunConfig, name: str) -> tuple[tuple[str, int], ...]:
    """``(system name, seed)`` of a stage: one for each of its seeds, the first under the stage's own name."""
    stage = config.stages.get(name)
    seeds = stage.seeds if isinstance(stage, FinetuneStage | DistillStage) else ()
    if not seeds:
        return ((name, config.run.seed),)
    return ((name, seeds[0]), *((f"{name}_seed{seed}", seed) for seed in seeds[1:]))
