"""The stage ``export``: export a model, certified against it, and score the export as a system."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import ExportResult, SystemResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.kinds import ExportStage
from distill_app_trainer.stages.evaluate import metrics_of, questions
from distill_datakit.columns import Reference

if TYPE_CHECKING:
    from distill_metrics import MetricResult

_TIMED = 40  # texts that are answered alone to measure the time of one
_CERTIFIED_ON = 512  # held-out texts of an export's certificate, which needs 64 at least

Answer = Callable[[Sequence[str]], Sequence[str]]


def run(context: RunContext, job: Job, stage: ExportStage) -> str:
    """Write ``exports/NAME``."""
    from distill_adapters import set_threads
    from distill_datakit import inputs_of, references_of
    from distill_deploy import export

    set_threads(context.plan.policies[job.stage])
    source = _whole(context, job, stage.model)
    part = None if stage.data is None else context.texts[stage.data]
    scored = part is not None and bool(stage.metrics) and context.plan.task != "masked"

    def metric(said: Sequence[str], references: Sequence[object]) -> tuple[float, float, float]:
        right = cast("Sequence[Reference]", references)
        found = _scores(context, said, right, stage.metrics[:1])[stage.metrics[0]]
        return (found.value, *(found.interval or (found.value, found.value)))

    done = export(
        source,
        context.folder.export(job.stage),
        task=context.plan.task,
        format=stage.format,
        exporter=stage.exporter,
        isolated=stage.isolated,
        precision=stage.precision,
        held_out=None if part is None else inputs_of(part)[:_CERTIFIED_ON],
        references=references_of(part)[:_CERTIFIED_ON] if scored and part is not None else None,
        metric=metric if scored else None,
        min_agreement=stage.min_agreement,
        allow_failed=stage.allow_failed,
        max_new_tokens=stage.max_new_tokens,
    )
    result = ExportResult(
        path=f"exports/{job.stage}",
        model=stage.model,
        format=done.format,
        precision=done.precision,
        size_bytes=done.size_bytes,
        certificate=dict(done.certificate),
    )
    context.results.exports[job.stage] = result
    if stage.data is not None and stage.metrics:
        _score(context, job, stage, source, done.path, result)
    return f"{done.format} {done.precision}, {done.size_bytes / 1e6:.2f} MB"


def _whole(context: RunContext, job: Job, model: str) -> Path:
    """The folder of a whole model: an adapter is merged into its base first."""
    from distill_adapters import merge

    path = context.path_of(model)
    if not (path / "adapter_config.json").is_file():
        return path
    merged = context.folder.model(f"{job.stage}_merged")
    merge(path, merged)
    return merged


def _scores(
    context: RunContext, said: Sequence[str], references: Sequence[Reference], metrics: Sequence[str]
) -> "dict[str, MetricResult]":
    from distill_metrics import measure_systems

    seed = context.plan.config.run.seed
    return measure_systems({"": said}, references, metrics=metrics, seed=seed).scores[""]


def _score(
    context: RunContext, job: Job, stage: ExportStage, source: Path, path: Path, result: ExportResult
) -> None:
    """Score the export, and time it against the torch model on texts that come alone."""
    from distill_adapters import DecodingConfig, load_model, model_report, predict
    from distill_deploy import load_runtime

    task = context.plan.task
    loaded = load_model(source, context.plan.policies[job.stage], task, training=False)
    inputs, references = questions(context, str(stage.data), loaded.tokenizer)
    runtime = load_runtime(path)

    def with_export(texts: Sequence[str]) -> Sequence[str]:
        return runtime.answer(texts, max_new_tokens=stage.max_new_tokens)

    def with_torch(texts: Sequence[str]) -> Sequence[str]:
        decoding = DecodingConfig(max_new_tokens=stage.max_new_tokens)
        return predict(loaded.model, loaded.tokenizer, texts, task=task, decoding=decoding).texts

    started = time.perf_counter()
    said = with_export(inputs)
    seconds = time.perf_counter() - started
    result.ms_alone = {"export": _ms_alone(with_export, inputs), "pytorch": _ms_alone(with_torch, inputs)}
    first = not any(name.startswith("exported") for name in context.results.systems)
    context.results.systems["exported" if first else f"exported_{path.name}"] = SystemResult(
        parameters=model_report(loaded).total_parameters,
        bytes=result.size_bytes,
        metrics=metrics_of(_scores(context, said, references, stage.metrics)),
        ms_per_example=1000 * seconds / len(references),
    )


def _ms_alone(answer: Answer, texts: Sequence[str]) -> float:
    """Milliseconds for a text that comes alone, as on a device: the median over a few."""
    took = []
    for text in texts[: _TIMED + 1]:
        started = time.perf_counter()
        answer([text])
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took[1:] or took)
