"""Ask every system, measure what they say, and write it down."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_app_evaluator.errors import EvaluationError, words_of
from distill_app_evaluator.examples import Examples, Say, read_examples, usable_metrics
from distill_app_evaluator.folders import System
from distill_app_evaluator.measuring import Measured, Part, Scores, measure
from distill_app_evaluator.predicting import Answers, answer, policy_for, quiet_libraries
from distill_app_evaluator.request import EvaluationRequest

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came out.

    Attributes:
        request: What was asked for.
        examples: The rows.
        answers: For each system what it said.
        measured: Scores, comparisons, retention, parts, worst rows.
    """

    request: EvaluationRequest
    examples: Examples
    answers: Mapping[str, Answers]
    measured: Measured

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that were computed."""
        return tuple(next(iter(self.measured.whole.scores.values())))

    def to_dict(self) -> dict[str, object]:
        """A plain dictionary for JSON, full precision."""
        rows, measured = self.request.rows, self.measured
        plain: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "data": str(rows.path),
            "split": rows.split,
            "n": len(self.examples.inputs),
            "metrics": list(self.metrics),
            "systems": {system.name: self._system(system) for system in self.request.systems},
            "comparisons": [one.to_dict() for one in measured.whole.comparisons],
        }
        if self.examples.parts:
            parts = {label: _part(part) for label, part in measured.parts.items()}
            plain["slices"] = {"by": rows.slices, "parts": parts}
        if self.request.samples:
            samples = [vars(sample) for sample in measured.samples]
            plain["samples"] = {"ranked_by": measured.ranked_by, "rows": samples}
        return plain

    def write(self, folder: Path) -> None:
        """Write predictions and ``metrics.json`` into a new sealed folder: all, or nothing.

        The predictions of one system are ``predictions.jsonl``; of several ``predictions/NAME.jsonl``.

        Raises:
            FileExistsError: ``folder`` exists.
        """
        from distill_deploy import staged

        with staged(folder) as staging:
            for name in self.answers:
                file = staging / "predictions.jsonl"
                if len(self.answers) > 1:
                    file = staging / "predictions" / f"{name}.jsonl"
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("w", encoding="utf-8") as out:
                    for row in self._predictions(name):
                        out.write(json.dumps(row, ensure_ascii=False) + "\n")
            text = json.dumps(self.to_dict(), indent=2) + "\n"
            (staging / "metrics.json").write_text(text, encoding="utf-8")

    def _system(self, system: System) -> dict[str, object]:
        seconds = self.answers[system.name].seconds
        plain: dict[str, object] = {
            "model": str(system.path),
            "kind": system.kind,
            "role": system.role,
            "task": system.task,
            "bytes": system.bytes,
            "seconds": seconds,
            "ms_per_example": 1000 * seconds / len(self.examples.inputs),
            "metrics": _scores(self.measured.whole.scores[system.name]),
        }
        if system.name in self.measured.retention:
            plain["retention"] = _scores(self.measured.retention[system.name])
        return plain

    def _predictions(self, name: str) -> list[dict[str, object]]:
        said = self.answers[name]
        columns = {
            metric: result.per_example
            for metric, result in self.measured.whole.scores[name].items()
            if result.per_example is not None
        }
        rows: list[dict[str, object]] = []
        for index, text in enumerate(said.texts):
            row: dict[str, object] = {
                "id": index,
                "input": self.examples.inputs[index],
                "reference": self.examples.references[index],
                "prediction": text,
                "metrics": {metric: column[index] for metric, column in columns.items()},
            }
            if said.scores is not None:
                row["score"] = said.scores[index]
            rows.append(row)
        return rows


def evaluate(request: EvaluationRequest, *, say: Say = lambda _: None) -> Evaluation:
    """Predict with every system, score and compare.

    Args:
        request: What to do, checked by ``check_request``.
        say: Told in words what happens.

    Raises:
        UsageError: A row of the file is damaged, a named metric cannot score these references, or a system
            needs more memory than there is; found before any model is loaded.
        EvaluationError: A system cannot be loaded or fails, or all its answers are empty.
        Exception: What the packages raise.
    """
    from distill_hwdetect import detect

    with quiet_libraries():
        examples = read_examples(request.rows)
        metrics = usable_metrics(request, examples.references, say)
        profile = detect()
        policies = {system.name: policy_for(system, profile) for system in request.systems}
        answers: dict[str, Answers] = {}
        for number, system in enumerate(request.systems, start=1):
            say(
                f"{number}/{len(request.systems)} {system.name}: "
                f"{len(examples.inputs)} rows of {request.rows.path}."
            )
            try:
                answers[system.name] = answer(
                    system,
                    examples.inputs,
                    request.answering,
                    policy=policies[system.name],
                    cores=profile.cpu.usable_cores,
                    say=say,
                )
            except Exception as error:
                raise EvaluationError(f"{system.name} failed: {words_of(error)}") from error
            _refuse_silence(system, answers[system.name].texts)
        say("Scoring.")
        teacher = request.teacher
        measured = measure(
            {name: found.texts for name, found in answers.items()},
            examples,
            metrics,
            teacher=None if teacher is None else teacher.name,
            samples=request.samples,
        )
    return Evaluation(request=request, examples=examples, answers=answers, measured=measured)


def _refuse_silence(system: System, texts: Sequence[str]) -> None:
    if not any(text.strip() for text in texts):
        raise EvaluationError(
            f"All {len(texts)} answers of {system.name} are empty: there is nothing to score. "
            "Look at what it was trained to read (--prefix, --columns), or train it longer."
        )


def _part(part: Part) -> dict[str, object]:
    return {
        "n": part.n,
        "systems": {name: _scores(scores) for name, scores in part.scores.items()},
        "comparisons": [one.to_dict() for one in part.comparisons],
    }


def _scores(scores: Scores) -> dict[str, object]:
    return {name: result.to_dict() for name, result in scores.items()}
