"""The stages that make models and data. Each reads names, calls the packages, and writes a folder."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.run.context import Workbench
from distill_app_trainer.run.data import inputs_of, joined
from distill_app_trainer.runfile.hub import described
from distill_app_trainer.runfile.references import tokenizer_of
from distill_app_trainer.runfile.schema import (
    CacheTeacherStage,
    DistillStage,
    MergeStage,
    Names,
    PseudoLabelStage,
    TrainingStage,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_adapters import FineTuner, LoadedModel, TrainConfig
    from distill_datakit import Collator, TokenizedData
    from distill_hwdetect import ExecutionPolicy
    from distill_kd import DistillationTrainer, Teacher

_TOLD_EVERY = 50  # labelled texts
_CUT_OF = 10_000  # rows, about, that are looked at to see what share the limits cut


def run_training(bench: Workbench, job: Job, stage: TrainingStage) -> str:
    """Fine-tune or distil, and save ``models/SYSTEM``; a word on how it went."""
    name, system, seed = job.stage, job.system, job.seed
    from distill_adapters import model_report, save_model, set_threads

    policy = bench.plan.policies[name]
    set_threads(policy)
    _seed_everything(seed)
    loaded = student(bench, stage, policy, seed)
    data = tokenized(bench, stage.data, loaded.tokenizer)
    # Beside the run and not in it: checkpoints are no result.
    work = bench.folder.path / "checkpoints" / system
    if isinstance(stage, DistillStage):
        distiller = _distiller(bench, job, stage, loaded, data, work)
        loss = float(distiller.train(resume_from_checkpoint=True).training_loss)
    else:
        loss = float(_tuner(bench, job, stage, loaded, work).train(data.data, resume=True).loss)
    save_model(
        loaded, bench.folder.model(system), metadata={"run": bench.plan.config.run.name, "stage": name}
    )
    report = model_report(loaded)
    entry = bench.results["stages"].setdefault(system, {})
    assert isinstance(entry, dict)  # noqa: S101 - ours
    entry |= {
        "kind": stage.kind,
        "seed": seed,
        "rows": len(data.data["train"]),
        "final_loss": loss,
        "parameters": report.total_parameters,
        "trainable_parameters": report.trainable_parameters,
    }
    _remove(work)
    return f"loss {loss:.3f} on {len(data.data['train']):,} rows"


def student(bench: Workbench, stage: TrainingStage, policy: "ExecutionPolicy", seed: int) -> "LoadedModel":
    """The model that a stage trains: a fresh one, a saved one, or what an earlier stage made."""
    from distill_adapters import AdapterConfig, attach, load_model, new_model

    config, task = bench.plan.config, bench.plan.task
    source = config.models.get(stage.model)
    if source is not None and source.config is not None:
        tokenizer = load_tokenizer(described(tokenizer_of(config, source), f"models.{stage.model}"))
        return new_model(source.config, tokenizer, task=task, seed=seed)
    path = bench.path_of(stage.model)
    loaded = load_model(path, policy, task, training=True)
    kind = str(policy.value("adapter"))
    if kind == "full" or (path / "adapter_config.json").is_file():
        return loaded
    return attach(loaded, AdapterConfig(kind=kind))


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer saved in a folder."""
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)  # noqa: S101 - what the class gives
    return tokenizer


def tokenized(bench: Workbench, data: Names, tokenizer: "PreTrainedTokenizerBase") -> "TokenizedData":
    """The rows a stage learns from, and those of ``validation`` where there are any."""
    from datasets import DatasetDict

    from distill_datakit import share_cut, tokenize

    task, limits = bench.plan.task, bench.plan.config.limits
    names = (data,) if isinstance(data, str) else data
    parts = {"train": joined(bench.texts, names, task)}
    if "validation" in bench.texts and "validation" not in names:
        parts["validation"] = joined(bench.texts, ("validation",), task)
    cut = bench.results.setdefault("cut", {})
    for name in {*names, *parts} & bench.texts.keys() - cut.keys():
        rows = joined(bench.texts, (name,), task)
        cut[name] = 100 * share_cut(
            rows.select(range(0, len(rows), max(1, len(rows) // _CUT_OF))),
            tokenizer,
            task,
            max_source_length=limits.max_source_length,
            max_target_length=limits.max_target_length,
        )
    return tokenize(
        DatasetDict(parts),
        tokenizer,
        task,
        max_source_length=limits.max_source_length,
        max_target_length=limits.max_target_length,
    )


def _tuner(
    bench: Workbench, job: Job, stage: TrainingStage, loaded: "LoadedModel", work: Path
) -> "FineTuner":
    from distill_adapters import FineTuner

    return FineTuner(
        loaded,
        settings=_settings(bench, job, stage),
        policy=bench.plan.policies[job.stage],
        output_dir=work,
        seed=job.seed,
        data_collator=collator_of(bench, loaded, job.seed),
        on_progress=bench.progress(job.system),
    )


def _settings(bench: Workbench, job: Job, stage: TrainingStage) -> "TrainConfig":
    """The settings of a training, which reports to where the run says; TensorBoard writes into the run."""
    reporters = bench.plan.config.run.report_to
    if not reporters:
        return stage.train
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(bench.folder.path / "logs" / job.system)
    extra = {"report_to": list(reporters), "run_name": job.system, **stage.train.extra}
    return dataclasses.replace(stage.train, extra=extra)


def _distiller(
    bench: Workbench, job: Job, stage: DistillStage, loaded: "LoadedModel", data: "TokenizedData", work: Path
) -> "DistillationTrainer":
    from distill_adapters import training_arguments
    from distill_kd import DistillationTrainer

    policy, task = bench.plan.policies[job.stage], bench.plan.task
    collate = collator_of(bench, loaded, job.seed)
    return DistillationTrainer(
        loaded.model,
        teacher=_teacher(bench, job, stage, data, collate),
        objective=stage.objective.objective(task),
        args=training_arguments(_settings(bench, job, stage), policy, work, task=task, seed=job.seed),
        train_dataset=data.data["train"],
        eval_dataset=data.data.get("validation"),
        data_collator=collate,
        processing_class=loaded.tokenizer,
        on_progress=bench.progress(job.system),
        accept_worse_teacher=stage.accept_worse_teacher,
    )


def step_seconds(bench: Workbench, job: Job, stage: TrainingStage) -> float:
    """Seconds an optimizer step takes, from a few real ones; everything is put back.

    Data and teachers that an earlier stage is still to make are left out: stored distributions cost next to
    nothing, and labelled rows cost what others do.
    """
    from distill_adapters import set_threads

    set_threads(bench.plan.policies[job.stage])
    _seed_everything(job.seed)
    loaded = student(bench, stage, bench.plan.policies[job.stage], job.seed)
    names = (stage.data,) if isinstance(stage.data, str) else stage.data
    data = tokenized(bench, tuple(name for name in names if name in bench.texts), loaded.tokenizer)
    work = bench.folder.path / job.system
    if isinstance(stage, DistillStage) and stage.teacher in bench.plan.config.models:
        return float(_distiller(bench, job, stage, loaded, data, work).measure_rate().seconds_per_step)
    return float(_tuner(bench, job, stage, loaded, work).measure_rate(data.data).seconds_per_step)


def _teacher(
    bench: Workbench, job: Job, stage: DistillStage, data: "TokenizedData", collate: "Collator"
) -> "Teacher":
    """The live teacher, or what an earlier stage stored of it."""
    from distill_adapters import load_model
    from distill_kd import CachedTeacher, LiveTeacher

    if isinstance(bench.plan.config.stages.get(stage.teacher), CacheTeacherStage):
        folder = bench.folder.store(stage.teacher)
        return CachedTeacher(folder, expected={**data.fingerprint, **collate.fingerprint})
    policy = bench.plan.policies[job.stage]
    loaded = load_model(
        bench.path_of(stage.teacher), policy.teacher or policy, bench.plan.task, training=False
    )
    return LiveTeacher(loaded.model, tokenizer=loaded.tokenizer)


def collator_of(bench: Workbench, loaded: "LoadedModel", seed: int) -> "Collator":
    """What makes batches of tokenized rows for a model."""
    from distill_datakit import collator

    task = bench.plan.task
    return collator(loaded.tokenizer, task, seed=seed, model=loaded.model if task == "seq2seq" else None)


def run_store(bench: Workbench, name: str, stage: CacheTeacherStage) -> str:
    """Write down a model's distributions over the rows that a later stage learns from."""
    from datasets import concatenate_datasets

    from distill_adapters import set_threads
    from distill_kd import LiveTeacher, write_cache

    policy = bench.plan.policies[name]
    set_threads(policy)
    loaded = bench.load(stage.model, policy)
    data = tokenized(bench, stage.data, loaded.tokenizer)
    report = write_cache(
        LiveTeacher(loaded.model, tokenizer=loaded.tokenizer),
        concatenate_datasets(list(data.data.values())),
        collator_of(bench, loaded, bench.plan.config.run.seed),
        bench.folder.store(name),
        task=bench.plan.task,
        settings=stage.cache,
        data_fingerprint=data.fingerprint,
        on_progress=lambda facts: bench.display.progress(name, facts),
    )
    bench.results["stages"][name] = {
        "kind": stage.kind,
        "rows": report.rows,
        "tokens": report.tokens,
        "bytes": report.size_bytes,
        "bytes_per_token": report.bytes_per_token,
        "k": report.k,
        "kl_error": report.kl_error,
    }
    return str(report)


def run_label(bench: Workbench, name: str, stage: PseudoLabelStage) -> str:
    """Let a model answer texts; the answers become data under the stage's name."""
    from distill_adapters import DecodingConfig, set_threads
    from distill_datakit import existing_ids, read_generations, write_generations
    from distill_kd import generate_teacher

    policy = bench.plan.policies[name]
    set_threads(policy)
    loaded = bench.load(stage.model, policy)
    names = (stage.data,) if isinstance(stage.data, str) else stage.data
    rows = [
        (f"{part}-{index}", text) for part in names for index, text in enumerate(inputs_of(bench.texts[part]))
    ]
    path = bench.folder.labels(name)

    def counted() -> object:
        made = generate_teacher(
            loaded.model,
            loaded.tokenizer,
            rows,
            task=bench.plan.task,
            decoding=DecodingConfig(
                max_new_tokens=stage.max_new_tokens, beams=stage.beams, batch_size=stage.batch_size
            ),
            skip=existing_ids(path),
        )
        for number, row in enumerate(made, start=1):
            if number % _TOLD_EVERY == 0 or number == len(rows):
                bench.display.progress(name, {"step": number, "total_steps": len(rows)})
            yield row

    count = write_generations(counted(), path)  # type: ignore[arg-type]  # rows of generate_teacher
    kept = len(read_generations(path))
    bench.results["stages"][name] = {"kind": stage.kind, "rows": count, "kept": kept}
    return f"{count:,} texts labelled, {count - kept:,} answers were empty"


def run_merge(bench: Workbench, name: str, stage: MergeStage) -> str:
    """Merge an adapter into its base, and save ``models/NAME``."""
    from distill_adapters import merge

    merge(bench.path_of(stage.model), bench.folder.model(name))
    bench.results["stages"][name] = {"kind": stage.kind, "model": stage.model}
    return f"merged {stage.model}"


def _seed_everything(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
