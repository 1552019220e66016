"""How long the trainings of a run will take on this machine, from a few real steps of each."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.plan.eta import together
from distill_app_trainer.plan.plan import RunPlan
from distill_app_trainer.plan.schedule import Job, jobs_of
from distill_app_trainer.runfile.references import row_counter

if TYPE_CHECKING:
    from datasets import Dataset


def measure(plan: RunPlan, texts: "dict[str, Dataset]") -> dict[Job, float]:
    """Seconds a step of each job that trains a model of the file on data of the file; others are left out.

    Args:
        plan: The run.
        texts: Raw texts by name.
    """
    from distill_app_trainer.run.context import RunContext
    from distill_app_trainer.run.display import Display
    from distill_app_trainer.run.folder import RunPaths
    from distill_app_trainer.stages import step_seconds

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        context = RunContext(
            plan=plan, folder=RunPaths(Path(folder)), display=Display(quiet=True), texts=dict(texts)
        )
        for job in jobs_of(plan.config):
            training = plan.config.stages[job.stage].training()
            if training is None or training.model not in plan.config.models:
                continue
            if set(training.uses_data()) & texts.keys():
                found[job] = step_seconds(context, job)
    return found


def describe(plan: RunPlan, rows: Mapping[str, int], rates: Mapping[Job, float]) -> str:
    """The measured durations for a person."""
    lines, left = [], dict.fromkeys(jobs_of(plan.config), 0.0)
    for job, rate in rates.items():
        training = plan.config.stages[job.stage].training()
        steps = 0 if training is None else training.steps(row_counter(plan.config, rows))
        left[job] = steps * rate
        lines.append(f"Time     {job.system}: {steps:,} steps of {rate:.3f} s, {left[job] / 60:.1f} minutes")
    how = f"{plan.slots} side by side" if plan.slots > 1 else "one after the other"
    lines.append(
        f"         These trainings take {together(plan, left) / 60:.1f} minutes, {how}; "
        "labelling, scoring and exporting come on top."
    )
    return "\n".join(lines)
