"""One module for each kind of stage, whose function ``run`` does it; nothing here decides what runs when.

A module has ``run(context: RunContext, job: Job, stage) -> str``: it reads names, calls the packages, writes
a folder, puts what it found into ``context.results``, and returns a few words for the display. A kind of an
installed package is the module that its entry point names (group ``distill_app_trainer.stages``), which has
``Config`` and ``run``.
"""

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from distill_app_trainer.runfile.stage import ENTRY_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from distill_app_trainer.plan.schedule import Job
    from distill_app_trainer.run.context import RunContext

MODULES = {
    "finetune": "finetune",
    "distill": "distill",
    "pseudo_label": "pseudo_label",
    "cache_teacher": "cache_teacher",
    "merge": "merge",
    "evaluate": "evaluate",
    "export": "export",
    "report": "report",
}
"""The module of each kind of this app."""


def run_stage(context: "RunContext", job: "Job") -> str:
    """Do one job; a few words on what came out."""
    return cast("str", _module(context, job).run(context, job, context.plan.config.stages[job.stage]))


def step_seconds(context: "RunContext", job: "Job") -> float:
    """Seconds an optimizer step of a training job takes, from a few real ones; 0 where none is measured."""
    measure: Callable[..., float] = getattr(_module(context, job), "step_seconds", lambda *_: 0.0)
    return measure(context, job, context.plan.config.stages[job.stage])


def _module(context: "RunContext", job: "Job") -> Any:
    kind = context.plan.config.stages[job.stage].kind
    if kind in MODULES:
        return importlib.import_module(f"{__name__}.{MODULES[kind]}")
    (point,) = entry_points(group=ENTRY_POINTS, name=kind)
    return point.load()
