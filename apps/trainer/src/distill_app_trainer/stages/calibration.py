"""The distributions of a system over the right tokens: its calibration, and its distance from its teacher."""

import dataclasses
from typing import TYPE_CHECKING

from distill_app_trainer.report.results import Distribution, Metric, from_dict
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.run.data import joined
from distill_app_trainer.stages.training import collator_of

if TYPE_CHECKING:
    from distill_adapters import ForcedLogProbs, LoadedModel

_ROWS = 1024  # spread over the held-out data
_BINS = 10


def forced_distribution(context: RunContext, data: str, loaded: "LoadedModel") -> "ForcedLogProbs | None":
    """What a model expects at each right token of held-out rows; None where they teach nothing."""
    from distill_adapters import forced_log_probs
    from distill_datakit import tokenize
    from distill_datakit.columns import TRAINING_COLUMNS

    task, columns = context.plan.task, set(context.texts[data].column_names)
    if not any(set(shape) <= columns for shape in TRAINING_COLUMNS[task]):
        return None
    rows = joined(context.texts, (data,), task)
    rows = rows.select(range(0, len(rows), -(-len(rows) // _ROWS)))
    limits = dataclasses.asdict(context.plan.config.limits)
    read = tokenize(rows, loaded.tokenizer, task, **limits).data
    collate = collator_of(context, loaded, context.plan.config.run.seed)
    return forced_log_probs(loaded.model, read, collate, task=task)


def describe_distribution(student: "ForcedLogProbs", teacher: "ForcedLogProbs | None") -> Distribution:
    """Calibration of a system and, where its teacher read the same tokens, its distance from it."""
    from distill_metrics import Agreement, Calibration

    calibration = Calibration(_BINS)
    calibration.add(student.log_probs, student.labels)
    ece = from_dict(Metric, calibration.result().to_dict())
    reliability = [dataclasses.asdict(one) for one in calibration.bins()]
    if (
        teacher is None
        or teacher.log_probs.shape != student.log_probs.shape
        or not teacher.labels.equal(student.labels)
    ):
        return Distribution(ece=ece, reliability=reliability)
    agreement = Agreement()
    agreement.add(student.log_probs, teacher.log_probs, places=student.places)
    found = {name: from_dict(Metric, value.to_dict()) for name, value in agreement.results().items()}
    by_place = [dataclasses.asdict(one) for one in agreement.by_place()]
    return Distribution(ece=ece, reliability=reliability, by_place=by_place, **found)
