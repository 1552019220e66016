"""The stage ``evaluate``: systems answer the same texts, are scored, and are compared in pairs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distill_app_trainer.plan.schedule import Job
from distill_app_trainer.report.results import (
    Evaluation,
    Metric,
    PairResult,
    Sample,
    Samples,
    SystemResult,
    from_dict,
)
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.kinds import EvaluateStage
from distill_app_trainer.runfile.references import systems_of, teacher_of
from distill_app_trainer.stages.calibration import describe_distribution, forced_distribution
from distill_datakit.columns import Reference

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_adapters import ForcedLogProbs
    from distill_metrics import MetricResult, SystemsReport

SAMPLES, WORST = 5, 10


@dataclass(kw_only=True)
class _Answers:
    """What the systems of a stage answered, by system, and the references."""

    inputs: list[str] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    log_probs: dict[str, list[list[float]]] = field(default_factory=dict)
    forced: "dict[str, ForcedLogProbs]" = field(default_factory=dict)
    entries: dict[str, SystemResult] = field(default_factory=dict)


def run(context: RunContext, job: Job, stage: EvaluateStage) -> str:
    """Score every system on the same raw texts, and compare the named pairs."""
    from distill_adapters import set_threads
    from distill_metrics import degeneration_rates, measure_systems

    set_threads(context.plan.policies[job.stage])
    systems = systems_of(context.plan.config, stage.systems)
    teachers = {name: teacher_of(context.plan.config, name) for name in systems}
    answers = _Answers()
    # Teachers first: the distributions of teachers alone are kept.
    for number, system in enumerate(sorted(systems, key=lambda one: one not in teachers.values()), start=1):
        _ask(context, job, stage, system, answers)
        if system not in teachers.values():
            answers.forced.pop(system, None)
        context.folder.event("scored", stage=job.stage, system=system)
        context.display.progress(job.stage, {"step": number, "total_steps": len(systems)})
    texts = {system: answers.texts[system] for system in systems}
    measured = measure_systems(
        texts,
        answers.references,
        metrics=stage.metrics,
        log_probs=answers.log_probs or None,
        pairs=stage.compare,
        teacher={student: name for student, name in teachers.items() if name in texts},
        seed=context.plan.config.run.seed,
    )
    for system, entry in answers.entries.items():
        teacher = texts.get(teachers[system] or "")
        entry.metrics = metrics_of(measured.scores[system])
        entry.health = degeneration_rates(texts[system], answers.references, teacher=teacher)
    entries = {system: answers.entries[system] for system in systems}
    results, rows = context.results, len(answers.references)
    results.systems |= entries
    results.evaluations[job.stage] = Evaluation(data=stage.data, n=rows, systems=entries)
    for first, second in stage.compare:
        results.comparisons[f"{first}_vs_{second}"] = _compared(measured, first, second, teachers.get(first))
    if not results.samples.rows:
        results.samples = _samples(
            answers, texts, measured, stage.compare[0][0] if stage.compare else systems[0]
        )
    return f"{len(systems)} systems on {rows:,} rows of {stage.data}"


def _ask(context: RunContext, job: Job, stage: EvaluateStage, system: str, answers: _Answers) -> None:
    """Let one system answer all texts, and note its size, its speed and how it is calibrated."""
    from distill_adapters import DecodingConfig, mask_log_probs, model_report, predict
    from distill_datakit import cloze_texts

    loaded = context.load(system, context.plan.policies[job.stage])
    started = time.perf_counter()
    answers.inputs, references = questions(context, stage.data, loaded.tokenizer)
    decoding = DecodingConfig(
        max_new_tokens=stage.max_new_tokens, beams=stage.beams, batch_size=stage.batch_size
    )
    found = predict(loaded.model, loaded.tokenizer, answers.inputs, task=context.plan.task, decoding=decoding)
    seconds = time.perf_counter() - started
    answers.texts[system] = list(found.texts)
    answers.references = answers.references or references
    if "nll" in stage.metrics:
        whole = cloze_texts(context.texts[stage.data])
        answers.log_probs[system] = mask_log_probs(loaded.model, loaded.tokenizer, answers.inputs, whole)
    forced = forced_distribution(context, stage.data, loaded)
    teacher = answers.forced.get(teacher_of(context.plan.config, system) or "")
    if forced is not None:
        answers.forced[system] = forced
    answers.entries[system] = SystemResult(
        parameters=model_report(loaded).total_parameters,
        bytes=sum(file.stat().st_size for file in context.path_of(system).glob("*.safetensors")),
        metrics={},
        ms_per_example=1000 * seconds / len(references),
        distribution=None if forced is None else describe_distribution(forced, teacher),
    )


def questions(
    context: RunContext, data: str, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[str], list[Reference]]:
    """Inputs and references of named data; for a masked model, texts with one word hidden."""
    from distill_datakit import cloze_questions, inputs_of, references_of

    part = context.texts[data]
    if context.plan.task == "masked":
        return cloze_questions(part, tokenizer, seed=context.plan.config.run.seed)
    return inputs_of(part), references_of(part)


def metrics_of(scores: "Mapping[str, MetricResult]") -> dict[str, Metric]:
    """The results of metrics as the report holds them."""
    return {name: from_dict(Metric, result.to_dict()) for name, result in scores.items()}


def _compared(
    measured: "SystemsReport", first: str, second: str, teacher: str | None
) -> dict[str, PairResult]:
    """A pair in every metric; a student and its teacher with the share of the score that is kept."""
    kept = metrics_of(measured.retention.get(first, {})) if second == teacher else {}
    return {
        metric: from_dict(
            PairResult,
            {**one.to_dict(), "statement": one.statement(), "retention": kept.get(metric)},
        )
        for metric, one in measured.between(first, second).items()
    }


def _samples(
    answers: _Answers, texts: Mapping[str, Sequence[str]], measured: "SystemsReport", judged: str
) -> Samples:
    """Rows spread evenly over the data, and those that a system answers worst."""

    def chosen(rows: Sequence[int]) -> list[Sample]:
        return [
            Sample(
                input=answers.inputs[row],
                reference=answers.references[row],
                answers={name: said[row] for name, said in texts.items()},
            )
            for row in rows
        ]

    count = len(answers.inputs)
    spread = range(0, count, max(1, count // SAMPLES))[:SAMPLES]
    return Samples(
        rows=chosen(spread), worst=chosen(measured.worst_rows(WORST, system=judged)), worst_of=judged
    )
