"""What the stages have in common that train: student, rows, collator, arguments, results."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import TrainResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.run.data import joined
from distill_app_trainer.runfile.hub import described
from distill_app_trainer.runfile.references import tokenizer_of
from distill_app_trainer.runfile.stage import Names, TrainingStage

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

    from distill_adapters import FineTuner, LoadedModel, TrainConfig
    from distill_datakit import Collator, TokenizedData

_COUNTED_ROWS = 10_000  # about so many are tokenized without limits, to count those that the limits truncate


def train_and_save(
    context: RunContext,
    job: Job,
    kind: Literal["finetune", "distill"],
    train: "Callable[[LoadedModel, TokenizedData, Path, TrainResult], float]",
) -> str:
    """Prepare a student and its rows, train, and save ``models/SYSTEM``.

    Args:
        context: The run.
        job: The job.
        kind: The kind of the stage.
        train: Trains the student on the rows with a folder for checkpoints, and returns the final loss.

    Returns:
        The loss and the rows, in a few words.
    """
    from distill_adapters import model_report, save_model

    loaded, data = prepare(context, job)
    # Beside the models and not among them: checkpoints are no result.
    work = context.folder.path / "checkpoints" / job.system
    result = TrainResult(kind=kind, seed=job.seed)
    context.results.stages[job.system] = result
    result.final_loss = train(loaded, data, work, result)
    metadata = {"run": context.plan.config.run.name, "stage": job.stage}
    save_model(
        loaded,
        context.folder.model(job.system),
        metadata=metadata,
        relative_within=context.folder.path,
    )
    report = model_report(loaded)
    result.rows = len(data.data["train"])
    result.parameters, result.trainable_parameters = report.total_parameters, report.trainable_parameters
    shutil.rmtree(work, ignore_errors=True)
    return f"loss {result.final_loss:.3f} on {result.rows:,} rows"


def prepare(context: RunContext, job: Job) -> "tuple[LoadedModel, TokenizedData]":
    """The student of a job, seeded, and the rows that it learns from as far as they are there."""
    from transformers import set_seed

    from distill_adapters import set_threads

    stage = training_stage(context, job)
    set_threads(context.plan.policies[job.stage])
    set_seed(job.seed)
    loaded = student(context, job, stage)
    return loaded, tokenized(context, stage.data, loaded.tokenizer)


def training_stage(context: RunContext, job: Job) -> TrainingStage:
    """The stage of a job that trains."""
    stage = context.plan.config.stages[job.stage].training()
    if stage is None:
        raise TypeError(f"{job.stage} does not train")
    return stage


def student(context: RunContext, job: Job, stage: TrainingStage) -> "LoadedModel":
    """The model that a stage trains: a fresh one, a saved one, or what an earlier stage made."""
    from distill_adapters import AdapterConfig, attach, load_model, load_tokenizer, new_model

    config, task, policy = context.plan.config, context.plan.task, context.plan.policies[job.stage]
    source = config.models.get(stage.model)
    if source is not None and source.config is not None:
        tokenizer = load_tokenizer(described(tokenizer_of(config, source), f"models.{stage.model}"))
        return new_model(source.config, tokenizer, task=task, seed=job.seed)
    path = context.path_of(stage.model)
    loaded = load_model(path, policy, task, training=True)
    kind = policy.adapter.value
    if kind == "full" or (path / "adapter_config.json").is_file():
        return loaded
    return attach(loaded, AdapterConfig(kind=kind))


def tokenized(context: RunContext, names: Names, tokenizer: "PreTrainedTokenizerBase") -> "TokenizedData":
    """The rows a stage learns from, and those of ``validation`` where there are any.

    Data that an earlier stage has yet to make is left out, which happens only when durations are measured.
    """
    from datasets import DatasetDict

    from distill_datakit import tokenize, truncated_fraction

    task, limits = context.plan.task, dataclasses.asdict(context.plan.config.limits)
    listed = (names,) if isinstance(names, str) else names
    listed = tuple(name for name in listed if name in context.texts)
    parts = {"train": joined(context.texts, listed, task)}
    if "validation" in context.texts and "validation" not in listed:
        parts["validation"] = joined(context.texts, ("validation",), task)
    truncated = context.results.truncated_percent
    for name in {*listed, *parts} & context.texts.keys() - truncated.keys():
        rows = joined(context.texts, (name,), task)
        some = rows.select(range(0, len(rows), max(1, len(rows) // _COUNTED_ROWS)))
        truncated[name] = 100 * truncated_fraction(some, tokenizer, task, **limits)
    return tokenize(DatasetDict(parts), tokenizer, task, **limits)


def train_config(context: RunContext, job: Job) -> "TrainConfig":
    """How a job trains and where it reports to; TensorBoard writes into the run."""
    train = training_stage(context, job).train
    reporters = context.plan.config.run.report_to
    if not reporters:
        return train
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(context.folder.path / "logs" / job.system)
    extra = {"report_to": list(reporters), "run_name": job.system, **train.extra}
    return dataclasses.replace(train, extra=extra)


def fine_tuner(
    context: RunContext, job: Job, loaded: "LoadedModel", work: Path, result: TrainResult
) -> "FineTuner":
    """The tuner of a job that learns from labels alone."""
    from distill_adapters import FineTuner

    return FineTuner(
        loaded,
        config=train_config(context, job),
        policy=context.plan.policies[job.stage],
        output_dir=work,
        seed=job.seed,
        data_collator=collator_of(context, loaded, job.seed),
        on_progress=context.progress(job.system, result),
    )


def collator_of(context: RunContext, loaded: "LoadedModel", seed: int) -> "Collator":
    """What makes batches of tokenized rows for a model."""
    from distill_datakit import collator

    task = context.plan.task
    return collator(loaded.tokenizer, task, seed=seed, model=loaded.model if task == "seq2seq" else None)
