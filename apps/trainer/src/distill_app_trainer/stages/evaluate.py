"""The stage that measures: every system on the same texts, and pairs of them compared."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.report.health import answers_health
from distill_app_trainer.run.context import Workbench
from distill_app_trainer.run.data import Reference, inputs_of, references_of
from distill_app_trainer.runfile.references import teacher_of, variants
from distill_app_trainer.runfile.schema import EvaluateStage
from distill_app_trainer.stages.calibration import distribution_health, read_right_tokens
from distill_app_trainer.stages.masks import compare_likelihoods, masked_questions, whole_texts

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill_adapters import ForcedLogProbs
    from distill_metrics import Comparison, MetricResult

SAMPLES, WORST = 5, 10

Said = tuple[list[str], list[str], list[Reference]]
"""Inputs as the system read them, what it said, and what would have been right."""


@dataclass(kw_only=True)
class _Answers:
    """What the systems of a stage said, by system, and what was right."""

    said: dict[str, list[str]] = field(default_factory=dict)
    likely: dict[str, list[list[float]]] = field(default_factory=dict)
    forced: "dict[str, ForcedLogProbs]" = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    right: list[Reference] = field(default_factory=list)
    entries: dict[str, dict[str, object]] = field(default_factory=dict)
    scores: "dict[str, dict[str, MetricResult]]" = field(default_factory=dict)


def run_evaluate(bench: Workbench, name: str, stage: EvaluateStage) -> str:
    """Score every system on the same raw texts, and compare the named pairs."""
    from distill_adapters import set_threads

    set_threads(bench.plan.policies[name])
    systems = [system for one in stage.systems for system, _ in variants(bench.plan.config, one)]
    teachers = {teacher_of(bench.plan.config, system) for system in systems}
    found = _Answers()
    # Teachers first: of them alone the distributions are kept.
    for number, system in enumerate(sorted(systems, key=lambda one: one not in teachers), start=1):
        _ask(bench, name, stage, system, found)
        if system not in teachers:
            found.forced.pop(system, None)
        bench.folder.event("scored", stage=name, system=system)
        bench.display.progress(name, {"step": number, "total_steps": len(systems)})
    said = {system: found.said[system] for system in systems}
    for system, entry in found.entries.items():
        teacher = said.get(teacher_of(bench.plan.config, system) or "")
        entry["health"] = answers_health(said[system], found.right, teacher)
    comparisons = {
        f"{first}_vs_{second}": {
            metric: compare_likelihoods(bench, (first, second), found.likely)
            if metric == "nll"
            else _compare(bench, (first, second), said, found.right, metric)
            for metric in stage.metrics
        }
        for first, second in stage.compare
    }
    entries: dict[str, object] = {system: found.entries[system] for system in systems}
    bench.results["systems"] |= entries
    bench.results["comparisons"] |= comparisons
    bench.results["evaluations"][name] = {"data": stage.data, "n": len(found.right), "systems": entries}
    if not bench.results["samples"]:
        judged = stage.compare[0][0] if stage.compare else systems[0]
        worst = _worst(found.scores[judged][stage.metrics[0]], stage.metrics[0])
        bench.results["samples"] = {
            "rows": _samples(found.inputs, found.right, said, _spread(len(found.inputs))),
            "worst": _samples(found.inputs, found.right, said, worst),
            "worst_of": judged,
        }
    return f"{len(systems)} systems on {len(found.right):,} rows of {stage.data}"


def _ask(bench: Workbench, name: str, stage: EvaluateStage, system: str, found: _Answers) -> None:
    """Let one system answer all texts, and score what it says and how sure it is."""
    from distill_adapters import mask_log_probs, model_report

    loaded = bench.load(system, bench.plan.policies[name])
    started = time.perf_counter()
    found.inputs, found.said[system], right = _answers(bench, stage, loaded.model, loaded.tokenizer)
    seconds = time.perf_counter() - started
    found.right = found.right or right
    if "nll" in stage.metrics:
        whole = whole_texts(bench.texts[stage.data])
        found.likely[system] = mask_log_probs(loaded.model, loaded.tokenizer, found.inputs, whole)
    likely = found.likely.get(system)
    found.scores[system] = score_texts(bench, found.said[system], found.right, stage.metrics, likely)
    found.entries[system] = {
        "parameters": model_report(loaded).total_parameters,
        "bytes": weights_bytes(bench.path_of(system)),
        "metrics": {key: value.to_dict() for key, value in found.scores[system].items()},
        "ms_per_example": 1000 * seconds / len(found.right),
    }
    forced = read_right_tokens(bench, stage, loaded)
    if forced is not None:
        found.forced[system] = forced
        teacher = found.forced.get(teacher_of(bench.plan.config, system) or "")
        found.entries[system]["distribution"] = distribution_health(forced, teacher)


def _answers(
    bench: Workbench, stage: EvaluateStage, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> Said:
    from distill_adapters import DecodingConfig, predict

    inputs, references = questions(bench, bench.texts[stage.data], tokenizer)
    found = predict(
        model,
        tokenizer,
        inputs,
        task=bench.plan.task,
        decoding=DecodingConfig(
            max_new_tokens=stage.max_new_tokens, beams=stage.beams, batch_size=stage.batch_size
        ),
    )
    return inputs, list(found.texts), references


def questions(
    bench: Workbench, part: "Dataset", tokenizer: "PreTrainedTokenizerBase | None"
) -> tuple[list[str], list[Reference]]:
    """Inputs and references of a named part; of a masked model, texts with one word hidden."""
    if bench.plan.task != "masked":
        return inputs_of(part), references_of(part)
    assert tokenizer is not None  # noqa: S101 - the caller has one for masked models
    return masked_questions(part, tokenizer, seed=bench.plan.config.run.seed)


def score_texts(
    bench: Workbench,
    said: Sequence[str],
    right: Sequence[Reference],
    metrics: Sequence[str],
    likely: Sequence[Sequence[float]] | None = None,
) -> "dict[str, MetricResult]":
    """Metrics with intervals; ``accuracy`` is the share of answers that are right."""
    from distill_metrics import score, score_log_probs

    seed = bench.plan.config.run.seed
    names = {metric: _metric_name(metric) for metric in metrics}
    texts = tuple(dict.fromkeys(name for name in names.values() if name != "nll"))
    found = score(said, right, metrics=texts, seed=seed) if texts else {}
    if likely is not None:
        found["nll"] = score_log_probs(likely, seed=seed)
    return {metric: found[name] for metric, name in names.items()}


def _metric_name(metric: str) -> str:
    return "exact_match" if metric == "accuracy" else metric


def _compare(
    bench: Workbench,
    pair: tuple[str, str],
    said: Mapping[str, Sequence[str]],
    right: Sequence[Reference],
    metric: str,
) -> dict[str, object]:
    from distill_metrics import compare

    first, second = pair
    found: Comparison = compare(
        said[first],
        said[second],
        right,
        metric=_metric_name(metric),
        names=pair,
        seed=bench.plan.config.run.seed,
    )
    found = dataclasses.replace(found, metric=metric)
    return {**found.to_dict(), "statement": found.statement(), **_kept(bench, pair, said, right, metric)}


def _kept(
    bench: Workbench,
    pair: tuple[str, str],
    said: Mapping[str, Sequence[str]],
    right: Sequence[Reference],
    metric: str,
) -> dict[str, object]:
    """What share of its teacher's score a student keeps, where a share says something."""
    from distill_metrics import ShapeError, lower_is_better, retention

    name, (student, teacher) = _metric_name(metric), pair
    if teacher != teacher_of(bench.plan.config, student) or lower_is_better(name):
        return {}
    try:
        kept = retention(said[student], said[teacher], right, metric=name, seed=bench.plan.config.run.seed)
    except ShapeError:
        return {}  # a teacher that gets nothing right has nothing to keep
    return {"retention": kept.to_dict()}


def _samples(
    inputs: Sequence[str],
    right: Sequence[Reference],
    said: Mapping[str, Sequence[str]],
    chosen: Sequence[int],
) -> list[dict[str, object]]:
    """Some rows with what each system said."""
    return [
        {
            "input": inputs[index],
            "reference": right[index],
            "answers": {name: texts[index] for name, texts in said.items()},
        }
        for index in chosen
    ]


def _spread(count: int) -> list[int]:
    """A few rows, evenly spread over the data."""
    return list(range(0, count, max(1, count // SAMPLES)))[:SAMPLES]


def _worst(result: "MetricResult", metric: str) -> list[int]:
    """The rows that a system does worst, worst first."""
    from distill_metrics import lower_is_better

    values = result.per_example or ()
    sign = -1 if lower_is_better(_metric_name(metric)) else 1
    return sorted(range(len(values)), key=lambda index: sign * values[index])[:WORST]


def weights_bytes(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
