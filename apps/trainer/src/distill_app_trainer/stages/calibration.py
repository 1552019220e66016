"""How sure a system is of the right tokens, and how far a student is from its teacher there."""

import dataclasses
from typing import TYPE_CHECKING

from distill_app_trainer.checks.data import NEEDED
from distill_app_trainer.run.context import Workbench
from distill_app_trainer.run.data import joined
from distill_app_trainer.runfile.schema import EvaluateStage

if TYPE_CHECKING:
    from distill_adapters import ForcedLogProbs, LoadedModel

_ROWS = 1024  # spread over the held-out data
_BINS = 10


def read_right_tokens(
    bench: Workbench, stage: EvaluateStage, loaded: "LoadedModel"
) -> "ForcedLogProbs | None":
    """What a model expects where the held-out rows have something to learn; None where they have nothing."""
    from distill_adapters import forced_log_probs
    from distill_app_trainer.stages.train import collator_of
    from distill_datakit import tokenize

    task, limits, part = bench.plan.task, bench.plan.config.limits, bench.texts[stage.data]
    if not any(set(shape) <= set(part.column_names) for shape in NEEDED[task]):
        return None
    rows = joined(bench.texts, (stage.data,), task)
    rows = rows.select(range(0, len(rows), -(-len(rows) // _ROWS)))
    data = tokenize(
        rows,
        loaded.tokenizer,
        task,
        max_source_length=limits.max_source_length,
        max_target_length=limits.max_target_length,
    ).data
    collate = collator_of(bench, loaded, bench.plan.config.run.seed)
    return forced_log_probs(loaded.model, data, collate, task=task)


def distribution_health(ours: "ForcedLogProbs", teachers: "ForcedLogProbs | None") -> dict[str, object]:
    """Calibration of a system and, where its teacher read the same tokens, how far it is from it.

    Returns:
        ``ece`` and, with such a teacher, ``kl``, ``top1_agreement`` and ``entropy_gap``, all as of
        ``MetricResult.to_dict``; ``reliability`` and ``by_place``, lists of bins.
    """
    from distill_metrics import Agreement, Calibration

    calibration = Calibration(_BINS)
    calibration.add(ours.log_probs, ours.labels)
    found: dict[str, object] = {
        "ece": calibration.result().to_dict(),
        "reliability": [dataclasses.asdict(one) for one in calibration.bins()],
    }
    if (
        teachers is not None
        and teachers.log_probs.shape == ours.log_probs.shape
        and teachers.labels.equal(ours.labels)
    ):
        agreement = Agreement()
        agreement.add(ours.log_probs, teachers.log_probs, places=ours.places)
        found |= {name: value.to_dict() for name, value in agreement.results().items()}
        found["by_place"] = [dataclasses.asdict(one) for one in agreement.by_place()]
    return found
