"""The stage ``finetune``: train on labels."""

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import TrainResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.kinds import FinetuneStage
from distill_app_trainer.stages.training import fine_tuner, prepare, train_and_save


def run(context: RunContext, job: Job, stage: FinetuneStage) -> str:
    """Fine-tune, and save ``models/SYSTEM``."""
    return train_and_save(
        context,
        job,
        stage.kind,
        lambda loaded, data, work, result: float(
            fine_tuner(context, job, loaded, work, result).train(data.data, resume=True).loss
        ),
    )


def step_seconds(context: RunContext, job: Job, stage: FinetuneStage) -> float:
    """Seconds an optimizer step takes, from a few real ones; the model is left as it was."""
    loaded, data = prepare(context, job)
    tuner = fine_tuner(context, job, loaded, context.folder.path / job.system, TrainResult(kind=stage.kind))
    return float(tuner.measure_rate(data.data).seconds_per_step)
