"""The stage ``merge``: merge an adapter into its base."""

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import MergeResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.kinds import MergeStage


def run(context: RunContext, job: Job, stage: MergeStage) -> str:
    """Write ``models/NAME``."""
    from distill_adapters import merge

    merge(context.path_of(stage.model), context.folder.model(job.stage))
    context.results.stages[job.stage] = MergeResult(model=stage.model)
    return f"merged {stage.model}"
