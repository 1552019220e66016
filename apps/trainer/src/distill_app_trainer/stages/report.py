"""The stage ``report``: write what has been found so far."""

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.run.report import write_report
from distill_app_trainer.runfile.kinds import ReportStage


def run(context: RunContext, job: Job, stage: ReportStage) -> str:  # noqa: ARG001 - all stages are called alike
    """Write report.json, report.html and the model cards."""
    write_report(context, seconds=None)
    return "report.json, report.html"
