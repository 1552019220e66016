"""What the names in a run file stand for: models, earlier stages, data."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from distill_app_trainer.runfile.kinds import DistillStage
from distill_app_trainer.runfile.schema import ModelSource, RunConfig
from distill_app_trainer.runfile.stage import Names, Stage

_Kind = TypeVar("_Kind", bound=Stage)
SPLIT_NAMES = ("train", "validation", "test")


def is_split(config: RunConfig) -> bool:
    """Whether ``train`` alone is given and is split into train, validation and test."""
    return "train" in config.data and not {"validation", "test"} & set(config.data)


def before(config: RunConfig, stage: str) -> Iterator[tuple[str, Stage]]:
    """The stages that stand before one."""
    for name, one in config.stages.items():
        if name == stage:
            return
        yield name, one


def of_kind(config: RunConfig, kind: type[_Kind]) -> Iterator[tuple[str, _Kind]]:
    """The stages of one kind, with their names."""
    for name, stage in config.stages.items():
        if isinstance(stage, kind):
            yield name, stage


def made_before(config: RunConfig, stage: str, what: str) -> tuple[str, ...]:
    """Names of the stages before one that make a ``"model"``, ``"data"`` or a ``"cache"``."""
    return tuple(name for name, one in before(config, stage) if one.makes == what)


def data_before(config: RunConfig, stage: str) -> tuple[str, ...]:
    """Names of data that a stage may use: files, the parts of a split file, and what earlier stages made."""
    parts = SPLIT_NAMES if is_split(config) else ()
    return (*dict.fromkeys((*config.data, *parts)), *made_before(config, stage, "data"))


def models_before(config: RunConfig, stage: str) -> tuple[str, ...]:
    """Names of models that a stage may use: those of the file and what earlier stages made."""
    return (*config.models, *made_before(config, stage, "model"))


def origin_name(config: RunConfig, name: str) -> str:
    """The name of the model of the file from which a model or stage descends; names have been checked."""
    while name not in config.models:
        name = str(config.stages[name].parent())
    return name


def origin(config: RunConfig, name: str) -> ModelSource:
    """The model of the file from which a model or stage descends; names have been checked."""
    return config.models[origin_name(config, name)]


def teacher_of(config: RunConfig, system: str) -> str | None:
    """The model or stage from which a distilled system learned, also through a cache of it."""
    for name, stage in config.stages.items():
        if isinstance(stage, DistillStage) and system in {one for one, _ in variants(config, name)}:
            teacher = config.stages.get(stage.teacher)
            return teacher.parent() if teacher is not None and teacher.makes == "cache" else stage.teacher
    return None


def live_teacher(config: RunConfig, stage: Stage) -> str | None:
    """The teacher that runs while a stage trains; None where there is none or a cache stands for it."""
    name = stage.teacher if isinstance(stage, DistillStage) else None
    cached = name in config.stages and config.stages[name].makes == "cache" if name else False
    return None if cached else name


def tokenizer_of(config: RunConfig, source: ModelSource) -> str:
    """The folder, or the name on the hub, of the tokenizer of a model of the file."""
    named = source.tokenizer
    if named is not None and named in config.models:
        return tokenizer_of(config, config.models[named])
    return named or str(source.path)


def row_counter(config: RunConfig, rows: Mapping[str, int]) -> Callable[[Names], int]:
    """A function that counts rows under some names, those that an earlier stage has yet to make included.

    Args:
        config: The run.
        rows: The rows of its files by name.
    """

    def count(names: Names) -> int:
        listed = (names,) if isinstance(names, str) else names
        return sum(
            count(config.stages[name].uses_data()) if name in config.stages else rows.get(name, 0)
            for name in listed
        )

    return count


def variants(config: RunConfig, name: str) -> tuple[tuple[str, int], ...]:
    """``(system, seed)`` of a stage: one for each of its seeds, the first under the stage's own name."""
    seeds = config.stages[name].repeats() if name in config.stages else ()
    if not seeds:
        return ((name, config.run.seed),)
    return ((name, seeds[0]), *((f"{name}_seed{seed}", seed) for seed in seeds[1:]))


def systems_of(config: RunConfig, names: tuple[str, ...]) -> list[str]:
    """The systems behind some names of models and stages."""
    return [system for name in names for system, _ in variants(config, name)]
