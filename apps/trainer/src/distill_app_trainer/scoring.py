"""The stages that measure: evaluate and export."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.bench import Workbench
from distill_app_trainer.config import EvaluateStage, ExportStage
from distill_app_trainer.health import answers_health
from distill_app_trainer.masks import compare_likelihoods, masked_questions, whole_texts
from distill_app_trainer.references import teacher_of, variants
from distill_app_trainer.texts import Reference, inputs_of, references_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill_metrics import Comparison, MetricResult

SAMPLES, WORST = 5, 10
_TIMED = 40  # texts that are answered one by one to see how long one takes
_CERTIFIED_ON = 512  # held-out texts of an export's certificate, which needs 64 at least

Said = tuple[list[str], list[str], list[Reference]]
"""Inputs as the system read them, what it said, and what would have been right."""


def run_evaluate(bench: Workbench, name: str, stage: EvaluateStage) -> str:
    """Score every system on the same raw texts, and compare the named pairs."""
    from distill_adapters import mask_log_probs, model_report, set_threads

    policy = bench.plan.policies[name]
    set_threads(policy)
    systems = [(one, system) for one in stage.systems for system, _ in variants(bench.plan.config, one)]
    said: dict[str, list[str]] = {}
    likely: dict[str, list[list[float]]] = {}
    right: list[Reference] = []
    inputs: list[str] = []
    entries: dict[str, object] = {}
    scores: dict[str, dict[str, MetricResult]] = {}
    for number, (_, system) in enumerate(systems, start=1):
        loaded = bench.load(system, policy)
        started = time.perf_counter()
        inputs, said[system], references = _answers(bench, stage, loaded.model, loaded.tokenizer)
        seconds = time.perf_counter() - started
        right = right or references
        if "nll" in stage.metrics:
            whole = whole_texts(bench.texts[stage.data])
            likely[system] = mask_log_probs(loaded.model, loaded.tokenizer, inputs, whole)
        scores[system] = _score(bench, said[system], right, stage.metrics, likely.get(system))
        entries[system] = {
            "parameters": model_report(loaded).total_parameters,
            "bytes": weights_bytes(bench.path_of(system)),
            "metrics": {key: value.to_dict() for key, value in scores[system].items()},
            "ms_per_example": 1000 * seconds / len(right),
        }
        bench.folder.event("scored", stage=name, system=system)
        bench.display.progress(name, {"step": number, "total_steps": len(systems)})
    for system, entry in entries.items():
        assert isinstance(entry, dict)  # noqa: S101 - made above
        teacher = said.get(teacher_of(bench.plan.config, system) or "")
        entry["health"] = answers_health(said[system], right, teacher)
    comparisons = {
        f"{first}_vs_{second}": {
            metric: compare_likelihoods(bench, (first, second), likely)
            if metric == "nll"
            else _compare(bench, (first, second), said, right, metric)
            for metric in stage.metrics
        }
        for first, second in stage.compare
    }
    bench.results["systems"] |= entries
    bench.results["comparisons"] |= comparisons
    bench.results["evaluations"][name] = {"data": stage.data, "n": len(right), "systems": entries}
    if not bench.results["samples"]:
        judged = stage.compare[0][0] if stage.compare else systems[0][1]
        bench.results["samples"] = {
            "rows": _samples(inputs, right, said, _spread(len(inputs))),
            "worst": _samples(
                inputs, right, said, _worst(scores[judged][stage.metrics[0]], stage.metrics[0])
            ),
            "worst_of": judged,
        }
    return f"{len(systems)} systems on {len(right):,} rows of {stage.data}"


def _answers(
    bench: Workbench, stage: EvaluateStage, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> Said:
    from distill_adapters import Generation, predict

    inputs, references = questions(bench, bench.texts[stage.data], tokenizer)
    found = predict(
        model,
        tokenizer,
        inputs,
        task=bench.plan.task,
        generation=Generation(
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


def _score(
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


def run_export(bench: Workbench, name: str, stage: ExportStage) -> str:
    """Export a model, verified against itself, and score the export as a system."""
    from distill_adapters import set_threads
    from distill_deploy import export

    set_threads(bench.plan.policies[name])
    source = _whole(bench, name, stage.model)
    held_out, references, metric = _held_out(bench, stage)
    done = export(
        source,
        bench.folder.export(name),
        task=bench.plan.task,
        format=stage.format,
        precision=stage.precision,
        held_out=held_out,
        references=references,
        metric=metric,
        floor=stage.floor,
        accept=stage.accept,
        max_new_tokens=stage.max_new_tokens,
    )
    bench.results["exports"][name] = {
        "path": f"exports/{name}",
        "model": stage.model,
        "format": done.format,
        "precision": done.precision,
        "size_bytes": done.size_bytes,
        "certificate": dict(done.certificate),
    }
    if stage.data is not None and stage.metrics:
        _score_export(bench, name, stage, source, done.path, size=done.size_bytes)
    return f"{done.format} {done.precision}, {done.size_bytes / 1e6:.2f} MB"


def _whole(bench: Workbench, name: str, model: str) -> Path:
    """The folder of a whole model: an adapter is merged into its base first."""
    from distill_adapters import merge

    path = bench.path_of(model)
    if not (path / "adapter_config.json").is_file():
        return path
    merged = bench.folder.model(f"{name}_merged")
    merge(path, merged)
    return merged


def _held_out(
    bench: Workbench, stage: ExportStage
) -> tuple[list[str] | None, list[Reference] | None, Callable[..., tuple[float, float, float]] | None]:
    if stage.data is None:
        return None, None, None
    part = bench.texts[stage.data]
    texts = inputs_of(part)[:_CERTIFIED_ON]
    if bench.plan.task == "masked" or not stage.metrics:
        return texts, None, None
    first = stage.metrics[0]

    def metric(said: Sequence[str], right: Sequence[Reference]) -> tuple[float, float, float]:
        found = _score(bench, said, right, (first,))[first]
        low, high = found.interval or (found.value, found.value)
        return found.value, low, high

    return texts, references_of(part)[:_CERTIFIED_ON], metric


def _score_export(
    bench: Workbench, name: str, stage: ExportStage, source: Path, path: Path, *, size: int
) -> None:
    from distill_adapters import Generation, load_model, model_report, predict
    from distill_deploy import MaskFiller, load_runtime

    assert stage.data is not None  # noqa: S101 - the caller has looked
    loaded = load_model(source, bench.plan.policies[name], bench.plan.task, training=False)
    inputs, right = questions(bench, bench.texts[stage.data], loaded.tokenizer)
    runtime = load_runtime(path)

    def answer(texts: Sequence[str]) -> list[str]:
        if isinstance(runtime, MaskFiller):
            return list(runtime.complete(texts))
        return list(runtime.generate(texts, max_new_tokens=stage.max_new_tokens))

    def with_torch(texts: Sequence[str]) -> list[str]:
        generation = Generation(max_new_tokens=stage.max_new_tokens)
        found = predict(loaded.model, loaded.tokenizer, texts, task=bench.plan.task, generation=generation)
        return list(found.texts)

    started = time.perf_counter()
    said = answer(inputs)
    seconds = time.perf_counter() - started
    entry = bench.results["exports"][name]
    assert isinstance(entry, dict)  # noqa: S101 - written by run_export
    entry["ms_alone"] = {"export": _ms_alone(answer, inputs), "pytorch": _ms_alone(with_torch, inputs)}
    taken = [name for name in bench.results["systems"] if name.startswith("exported")]
    system = f"exported_{path.name}" if taken else "exported"
    bench.results["systems"][system] = {
        "parameters": model_report(loaded).total_parameters,
        "bytes": size,
        "metrics": {key: value.to_dict() for key, value in _score(bench, said, right, stage.metrics).items()},
        "ms_per_example": 1000 * seconds / len(right),
    }


def _ms_alone(answer: Callable[[Sequence[str]], list[str]], texts: Sequence[str]) -> float:
    """Milliseconds a text takes that comes alone, as on a device: the median over a few."""
    took = []
    for text in texts[: _TIMED + 1]:
        started = time.perf_counter()
        answer([text])
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took[1:] or took)


def weights_bytes(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
