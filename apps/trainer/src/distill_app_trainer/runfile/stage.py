"""What every kind of stage says about itself, so that nothing else has to know the kinds.

A kind is a frozen dataclass that inherits from :class:`Stage`. Those of this app stand in ``schema``; an
installed package adds one under the entry point group ``distill_app_trainer.stages`` (docs/extending.md).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from distill_adapters import TrainConfig

Task = Literal["causal", "seq2seq", "masked"]
Names = str | tuple[str, ...]
CountRows = Callable[[Names], int]
FORBID: Mapping[str, str] = {"extra": "forbid"}
ENTRY_POINTS = "distill_app_trainer.stages"


@dataclass(frozen=True)
class Work:
    """How much there is to compute in a stage, for the estimate of its duration.

    Attributes:
        training: Whether models are trained; otherwise they are only run.
        rows: Rows that pass through each model.
        models: Names of the models.
        each_seed: Whether a stage with seeds stands for all of them.
    """

    training: bool
    rows: float
    models: tuple[str, ...]
    each_seed: bool = False


class Stage:
    """The defaults of every kind: a stage that runs no model, reads no data and makes nothing.

    Attributes:
        kind: The name of the kind, as the run file writes it.
        makes: What a later stage can use under this stage's name: a model, data, or a teacher's cache.
        parallel: Whether it takes long enough to run beside other stages.
        writes_weights: Whether a model or an export is written, for the estimate of disk space.
        reads_results: Whether it reads the results of all stages before it; it waits for them then, and runs
            in the main process.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = FORBID

    kind: str
    makes: ClassVar[Literal["model", "data", "cache"] | None] = None
    parallel: ClassVar[bool] = False
    writes_weights: ClassVar[bool] = False
    reads_results: ClassVar[bool] = False

    def uses_models(self) -> tuple[tuple[str, str], ...]:
        """``(key, name)`` of each model, or stage that makes one, that this stage names."""
        model = getattr(self, "model", None)
        return () if model is None else (("model", model),)

    def uses_data(self) -> tuple[str, ...]:
        """Each name of data that this stage reads."""
        names: Names | None = getattr(self, "data", None)
        return () if names is None else (names,) if isinstance(names, str) else names

    def reads(self) -> "Literal['examples', 'inputs', 'references'] | None":
        """What it reads of the data: examples to learn from, inputs alone, or inputs with references."""
        return None

    def parent(self) -> str | None:
        """The model or stage from which what this stage makes descends."""
        return getattr(self, "model", None)

    def repeats(self) -> tuple[int, ...]:
        """The seeds with which the stage is repeated; none runs it once with the run's seed."""
        return ()

    def training(self) -> "TrainingStage | None":
        """The stage itself where it trains, with the fields of a training."""
        return None

    def work(self, count_rows: CountRows) -> Work | None:  # noqa: ARG002 - kinds override it
        """How much there is to compute; None for next to nothing.

        Args:
            count_rows: Gives the rows under some names of data.
        """
        return None


class TrainingStage(Stage):
    """What the kinds have in common that train ``model`` on ``data``."""

    makes: ClassVar[Literal["model"]] = "model"
    parallel: ClassVar[bool] = True
    writes_weights: ClassVar[bool] = True

    model: str
    data: Names
    seeds: tuple[int, ...]
    train: TrainConfig

    def reads(self) -> Literal["examples"]:
        """It learns from them."""
        return "examples"

    def repeats(self) -> tuple[int, ...]:
        """Its seeds."""
        return self.seeds

    def training(self) -> "TrainingStage":
        """Itself."""
        return self

    def work(self, count_rows: CountRows) -> Work:
        """Its steps."""
        rows = self.steps(count_rows) * self.train.batch_size
        return Work(training=True, rows=rows, models=(self.model,))

    def steps(self, count_rows: CountRows) -> int:
        """Optimizer steps, for as many rows as there will be."""
        if self.train.steps is not None:
            return self.train.steps
        return math.ceil((self.train.epochs or 3) * count_rows(self.data) / self.train.batch_size)
