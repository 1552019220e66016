"""The kind of stage ``copy``: a model of the run under another name."""

import shutil
from dataclasses import dataclass
from typing import ClassVar, Literal

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import OtherResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Config(Stage):
    """Copy ``model``.

    Attributes:
        model: The model, or the stage that makes it.
    """

    makes: ClassVar[Literal["model"]] = "model"
    writes_weights: ClassVar[bool] = True

    kind: Literal["copy"]
    model: str


def run(context: RunContext, job: Job, stage: Config) -> str:
    """Write ``models/NAME``."""
    shutil.copytree(context.path_of(stage.model), context.folder.model(job.stage), dirs_exist_ok=True)
    context.results.stages[job.stage] = OtherResult(kind=stage.kind, figures={"model": stage.model})
    return f"copied {stage.model}"
