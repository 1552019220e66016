"""Predict the examples of a file with a model, score what it says, and write both down."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_app_evaluator.request import EvaluationRequest, Task, UsageError, base_of
from distill_metrics import EmptyTextError, MetricResult, score

SCHEMA_VERSION = 1

# The original's default metrics, and the one that needs no explanation.
_DEFAULT_METRICS = ("rouge1", "rouge2", "rougeL", "bleu", "exact_match")

Reference = str | list[str]
Say = Callable[[str], None]


class EvaluationError(RuntimeError):
    """The evaluation was started and cannot give a score."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came out.

    Attributes:
        request: What was asked for.
        task: What the model does.
        inputs: One text an example, as given to the model.
        references: What is right, in the same order.
        predictions: What the model said.
        scores: The model's own score of each prediction, where there is one.
        metrics: Values with intervals.
        seconds: Time spent predicting.
    """

    request: EvaluationRequest
    task: Task
    inputs: Sequence[str]
    references: Sequence[Reference]
    predictions: Sequence[str]
    scores: Sequence[float] | None
    metrics: Mapping[str, MetricResult]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """A plain dictionary for JSON, full precision."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": str(self.request.model),
            "task": self.task,
            "data": str(self.request.data),
            "split": self.request.split,
            "n": len(self.predictions),
            "seconds": self.seconds,
            "metrics": {name: result.to_dict() for name, result in self.metrics.items()},
        }

    def write(self, folder: Path) -> None:
        """Write ``predictions.jsonl`` and ``metrics.json`` into a new sealed folder: both, or nothing.

        Raises:
            FileExistsError: ``folder`` exists.
        """
        from distill_deploy import staged

        with staged(folder) as staging:
            with (staging / "predictions.jsonl").open("w", encoding="utf-8") as out:
                for row in self._rows():
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
            text = json.dumps(self.to_dict(), indent=2) + "\n"
            (staging / "metrics.json").write_text(text, encoding="utf-8")

    def _rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for index, (text, right, said) in enumerate(
            zip(self.inputs, self.references, self.predictions, strict=True)
        ):
            row: dict[str, object] = {"id": index, "input": text, "reference": right, "prediction": said}
            if self.scores is not None:
                row["score"] = self.scores[index]
            rows.append(row)
        return rows


def evaluate(request: EvaluationRequest, *, say: Say = lambda _: None) -> Evaluation:
    """Predict and score.

    Args:
        request: What to do, checked by ``check_request``.
        say: Told in words what happens.

    Raises:
        UsageError: A row of the file is damaged, a named metric cannot score these references, or the task
            cannot be told.
        EvaluationError: All predictions are empty.
        Exception: What the packages raise: data, model or memory that fail.
    """
    inputs, references = _examples(request)
    metrics = _usable_metrics(request, references, say)
    say(f"Predicting {len(inputs)} examples of {request.data} with {request.model}.")
    started = time.monotonic()
    predict = _predict_export if request.kind == "export" else _predict_model
    predictions, scores, task = predict(request, [request.prefix + text for text in inputs], say)
    seconds = time.monotonic() - started
    if not any(text.strip() for text in predictions):
        raise EvaluationError(
            f"All {len(predictions)} predictions are empty: the model says nothing to score."
        )
    return Evaluation(
        request=request,
        task=task,
        inputs=inputs,
        references=references,
        predictions=predictions,
        scores=scores,
        metrics=score(predictions, references, metrics=metrics),
        seconds=seconds,
    )


def _examples(request: EvaluationRequest) -> tuple[list[str], list[Reference]]:
    from distill_datakit import DataError, load, split

    try:
        dataset = load(request.data)
    except DataError as error:
        raise UsageError(str(error)) from error
    if request.split == "test":
        dataset = split(dataset)["test"]
    inputs = [str(text) for text in dataset[request.input_column]]
    references = [
        text if isinstance(text, str) else [str(one) for one in text]
        for text in dataset[request.reference_column]
    ]
    if not inputs:
        raise UsageError(f"The {request.split} split of {request.data} holds no example.")
    return inputs, references


def _usable_metrics(request: EvaluationRequest, references: Sequence[Reference], say: Say) -> tuple[str, ...]:
    """The metrics that can score these references, found out before any model is loaded."""
    perfect = [right if isinstance(right, str) else right[0] for right in references]
    usable = []
    for name in request.metrics or _DEFAULT_METRICS:
        try:
            score(perfect, references, metrics=[name], interval=None)
        except EmptyTextError as error:
            if request.metrics:
                raise UsageError(f"{name} cannot score {request.data}: {error}") from None
            say(f"Left out {name}: {error}")
            continue
        usable.append(name)
    return tuple(usable)


def _predict_export(
    request: EvaluationRequest, texts: list[str], say: Say
) -> tuple[list[str], list[float] | None, Task]:
    from distill_deploy import MaskFiller, load_runtime

    runtime = load_runtime(request.model)
    say(f"{request.model} is an export: it runs without torch.")
    if isinstance(runtime, MaskFiller):
        return runtime.complete(texts, batch_size=request.batch_size), None, "masked"
    said = runtime.generate(
        texts, max_new_tokens=request.max_new_tokens, beams=request.beams, batch_size=request.batch_size
    )
    return said, None, "causal" if runtime.task == "causal" else "seq2seq"


def _predict_model(
    request: EvaluationRequest, texts: list[str], say: Say
) -> tuple[list[str], list[float] | None, Task]:
    from distill_adapters import Generation, load_model, predict
    from distill_hwdetect import Requirements, detect, plan, read_model_facts

    source = base_of(request.model) if request.kind == "adapter" else request.model
    facts = read_model_facts(source)
    task = request.task or facts.task
    if task is None:
        raise UsageError(
            f"The task of {request.model} cannot be told; give --task causal, seq2seq or masked."
        )
    policy = plan(detect(), Requirements(task=task, model=facts, training=False))
    say(f"Running on {policy.device.value} in {policy.compute_dtype.value}: {policy.device.reason}")
    loaded = load_model(request.model, policy, task, training=False)
    generation = Generation(
        max_new_tokens=request.max_new_tokens, beams=request.beams, batch_size=request.batch_size
    )
    found = predict(loaded.model, loaded.tokenizer, texts, task=task, generation=generation)
    return found.texts, found.scores, task
