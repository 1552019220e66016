"""The stage ``distill``: train on labels and on a teacher's distributions."""

from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import TrainResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.kinds import DistillStage
from distill_app_trainer.runfile.references import live_teacher
from distill_app_trainer.stages.training import (
    collator_of,
    fine_tuner,
    prepare,
    train_and_save,
    train_config,
)

if TYPE_CHECKING:
    from distill_adapters import LoadedModel
    from distill_datakit import Collator, TokenizedData
    from distill_kd import DistillationTrainer, Teacher


def run(context: RunContext, job: Job, stage: DistillStage) -> str:
    """Distil, and save ``models/SYSTEM``."""

    def train(loaded: "LoadedModel", data: "TokenizedData", work: Path, result: TrainResult) -> float:
        trainer = _trainer(context, job, stage, loaded, data, work, result)
        return float(trainer.train(resume_from_checkpoint=True).training_loss)

    return train_and_save(context, job, stage.kind, train)


def step_seconds(context: RunContext, job: Job, stage: DistillStage) -> float:
    """Seconds an optimizer step takes, from a few real ones; the model is left as it was.

    A teacher that an earlier stage has yet to make or to cache is left out: cached distributions cost next to
    nothing.
    """
    loaded, data = prepare(context, job)
    work, result = context.folder.path / job.system, TrainResult(kind=stage.kind)
    if stage.teacher in context.plan.config.models:
        trainer = _trainer(context, job, stage, loaded, data, work, result)
        return float(trainer.measure_rate().seconds_per_step)
    tuner = fine_tuner(context, job, loaded, work, result)
    return float(tuner.measure_rate(data.data).seconds_per_step)


def _trainer(
    context: RunContext,
    job: Job,
    stage: DistillStage,
    loaded: "LoadedModel",
    data: "TokenizedData",
    work: Path,
    result: TrainResult,
) -> "DistillationTrainer":
    from distill_adapters import training_arguments
    from distill_kd import DistillationTrainer, Objective

    policy, task = context.plan.policies[job.stage], context.plan.task
    collate = collator_of(context, loaded, job.seed)
    return DistillationTrainer(
        loaded.model,
        teacher=_teacher(context, job, stage, data, collate),
        objective=Objective.from_config(stage.objective, task),
        args=training_arguments(train_config(context, job), policy, work, task=task, seed=job.seed),
        train_dataset=data.data["train"],
        eval_dataset=data.data.get("validation"),
        data_collator=collate,
        processing_class=loaded.tokenizer,
        on_progress=context.progress(job.system, result),
        accept_worse_teacher=stage.accept_worse_teacher,
    )


def _teacher(
    context: RunContext, job: Job, stage: DistillStage, data: "TokenizedData", collate: "Collator"
) -> "Teacher":
    """The live teacher, or the cache that an earlier stage made of it."""
    from distill_adapters import load_model
    from distill_kd import CachedTeacher, LiveTeacher

    if live_teacher(context.plan.config, stage) is None:
        folder = context.folder.cache(stage.teacher)
        return CachedTeacher(folder, expected={**data.fingerprint, **collate.fingerprint})
    policy = context.plan.policies[job.stage]
    path, task = context.path_of(stage.teacher), context.plan.task
    loaded = load_model(path, policy.teacher or policy, task, training=False)
    return LiveTeacher(loaded.model, tokenizer=loaded.tokenizer)
