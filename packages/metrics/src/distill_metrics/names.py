"""The names of the metrics, and what is known about each without computing anything."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from distill_metrics.errors import UnknownMetricError

METRIC_NAMES: tuple[str, ...] = (
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "bleu",
    "bleu_smoothed",
    "chrf",
    "chrfpp",
    "ter",
    "exact_match",
    "token_f1",
    "wer",
    "per",
    "cer",
)
"""Every metric that scores texts and needs no model."""

ENCODER_METRIC_NAMES: tuple[str, ...] = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
"""The metrics that score texts with an encoder, named in their settings."""

MODEL_METRIC_NAMES: tuple[str, ...] = (
    "perplexity",
    "pseudo_perplexity",
    "accuracy",
    "f1",
    "top1_agreement",
    "kl",
    "entropy_gap",
    "ece",
    "nll",
)
"""The metrics of what a model predicts: of its probabilities, or of labels; functions of their own."""

METRIC_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"rouge": ("rouge1", "rouge2", "rougeL", "rougeLsum")}
)
"""Short names that the command line takes for several metrics."""

_LOWER_IS_BETTER = frozenset(
    {"ter", "wer", "per", "cer", "perplexity", "pseudo_perplexity", "kl", "ece", "nll"}
)


def check_metric_names(names: Iterable[str], *, allowed: Iterable[str] = METRIC_NAMES) -> tuple[str, ...]:
    """The names as a tuple, in their order, once all of them are known to exist.

    Loads nothing: a run file or a command line is checked with it before anything heavy is imported.

    Raises:
        UnknownMetricError: A name is not in ``allowed`` (the nearest is named), or there is no name at all.
    """
    if isinstance(names, str):
        names = (names,)
    chosen, known = tuple(names), tuple(allowed)
    if not chosen:
        raise UnknownMetricError(f"No metric was named. Allowed: {', '.join(known)}.")
    for name in chosen:
        if name not in known:
            raise UnknownMetricError(_unknown(name, known))
    return chosen


def lower_is_better(name: str) -> bool:
    """Whether a smaller value of this metric is the better one: error rates, perplexities, KL and ECE.

    Raises:
        UnknownMetricError: There is no such metric.
    """
    known = (*METRIC_NAMES, *ENCODER_METRIC_NAMES, *MODEL_METRIC_NAMES)
    (checked,) = check_metric_names((name,), allowed=known)
    return checked in _LOWER_IS_BETTER


def _unknown(name: object, known: tuple[str, ...]) -> str:
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"There is no metric {name!r}.{hint} Allowed: {', '.join(known)}."
