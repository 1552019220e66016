"""Let every system answer, measure the answers, and write the results."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_evaluator.errors import EvaluationError, message_of
from distill_app_evaluator.examples import Examples, Say, read_examples, usable_metrics
from distill_app_evaluator.predicting import Answers, answer, policy_for, quiet_libraries
from distill_app_evaluator.request import EvaluationRequest
from distill_app_evaluator.systems import System

if TYPE_CHECKING:
    from distill_metrics import SystemsReport
    from distill_metrics.systems import Scores

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The results.

    Attributes:
        request: What was asked for.
        examples: The rows.
        answers: The answers of each system.
        measured: Scores, comparisons, retention and slices.
    """

    request: EvaluationRequest
    examples: Examples
    answers: Mapping[str, Answers]
    measured: "SystemsReport"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that were computed."""
        return tuple(next(iter(self.measured.scores.values())))

    @property
    def worst_rows(self) -> tuple[int, ...]:
        """Numbers of the worst rows of the first model, as many as were asked for, worst first."""
        return self.measured.worst_rows(self.request.samples)

    def to_dict(self) -> dict[str, object]:
        """Return a plain dictionary for JSON, in full precision."""
        rows, measured = self.request.rows, self.measured
        plain: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "data": str(rows.path),
            "split": rows.split,
            "n": measured.n,
            "metrics": list(self.metrics),
            "systems": {system.name: self._system(system) for system in self.request.systems},
            "comparisons": [one.to_dict() for one in measured.comparisons],
        }
        if rows.slices is not None:
            parts = {label: part.to_dict() for label, part in measured.slices.items()}
            plain["slices"] = {"by": rows.slices, "parts": parts}
        if self.request.samples:
            samples = [self._sample(row) for row in self.worst_rows]
            plain["samples"] = {"ranked_by": measured.ranked_by, "rows": samples}
        return plain

    def write(self, folder: Path) -> None:
        """Write predictions and ``metrics.json`` into a new folder with a manifest: all, or nothing.

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
            "ms_per_example": 1000 * seconds / self.measured.n,
            "metrics": _plain(self.measured.scores[system.name]),
        }
        if system.name in self.measured.retention:
            plain["retention"] = _plain(self.measured.retention[system.name])
        return plain

    def values(self, name: str, row: int) -> dict[str, float]:
        """The metrics of one answer; a metric without values a row is missing."""
        scores = self.measured.scores[name].items()
        return {metric: one.per_example[row] for metric, one in scores if one.per_example is not None}

    def _sample(self, row: int) -> dict[str, object]:
        ranked_by = str(self.measured.ranked_by)
        return {
            "id": row,
            "input": self.examples.inputs[row],
            "reference": self.examples.references[row],
            "answers": {name: said.texts[row] for name, said in self.answers.items()},
            "values": {name: self.values(name, row)[ranked_by] for name in self.answers},
        }

    def _predictions(self, name: str) -> Iterator[dict[str, object]]:
        said = self.answers[name]
        for row, text in enumerate(said.texts):
            yield {
                "id": row,
                "input": self.examples.inputs[row],
                "reference": self.examples.references[row],
                "prediction": text,
                "metrics": self.values(name, row),
            } | ({} if said.scores is None else {"score": said.scores[row]})


def evaluate(request: EvaluationRequest, *, say: Say = lambda _: None) -> Evaluation:
    """Let every system answer, score the answers and compare the systems.

    Args:
        request: What to do, checked by ``check_request``.
        say: Receives progress messages.

    Raises:
        UsageError: A row of the file is damaged, a named metric cannot score these references, or a system
            needs more memory than there is; found before any model is loaded.
        EvaluationError: A system cannot be loaded or fails, or all its answers are empty.
        Exception: What the packages raise.
    """
    from distill_hwdetect import detect
    from distill_metrics import measure_systems

    with quiet_libraries():
        examples = read_examples(request.rows)
        metrics = usable_metrics(request, examples.references, say)
        profile = detect()
        policies = {system.name: policy_for(system, profile) for system in request.systems}
        inputs = [request.prefix + text for text in examples.inputs]
        answers: dict[str, Answers] = {}
        for number, system in enumerate(request.systems, start=1):
            name = system.name
            say(f"{number}/{len(request.systems)} {name}: {len(inputs)} rows of {request.rows.path}.")
            cores = profile.cpu.usable_cores
            try:
                answers[name] = answer(
                    system, inputs, request.decoding, policy=policies[name], cores=cores, say=say
                )
            except Exception as error:
                raise EvaluationError(f"{name} failed: {message_of(error)}") from error
            if not any(text.strip() for text in answers[name].texts):
                raise EvaluationError(
                    f"All {len(inputs)} answers of {name} are empty: there is nothing to score. "
                    "Check what it was trained to read (--prefix, --columns), or train it longer."
                )
        say("Scoring.")
        measured = measure_systems(
            {name: found.texts for name, found in answers.items()},
            examples.references,
            metrics=metrics,
            teacher=None if request.teacher is None else request.teacher.name,
            slices=examples.slices,
        )
    return Evaluation(request=request, examples=examples, answers=answers, measured=measured)


def _plain(scores: "Scores") -> dict[str, object]:
    return {name: result.to_dict() for name, result in scores.items()}
