"""The stage that exports: verified against the torch model, then scored as a system."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from distill_app_trainer.run.context import Workbench
from distill_app_trainer.run.data import Reference, inputs_of, references_of
from distill_app_trainer.runfile.schema import ExportStage
from distill_app_trainer.stages.evaluate import questions, score_texts

_TIMED = 40  # texts that are answered one by one to see how long one takes
_CERTIFIED_ON = 512  # held-out texts of an export's certificate, which needs 64 at least


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
        exporter=stage.exporter,
        isolated=stage.isolated,
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
        found = score_texts(bench, said, right, (first,))[first]
        low, high = found.interval or (found.value, found.value)
        return found.value, low, high

    return texts, references_of(part)[:_CERTIFIED_ON], metric


def _score_export(
    bench: Workbench, name: str, stage: ExportStage, source: Path, path: Path, *, size: int
) -> None:
    from distill_adapters import DecodingConfig, load_model, model_report, predict
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
        decoding = DecodingConfig(max_new_tokens=stage.max_new_tokens)
        found = predict(loaded.model, loaded.tokenizer, texts, task=bench.plan.task, decoding=decoding)
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
        "metrics": {
            key: value.to_dict() for key, value in score_texts(bench, said, right, stage.metrics).items()
        },
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
