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


def metric_names() -> tuple[str, ...]:
    """Names of every metric that scores texts and needs no model, those of other distributions included.

    Example:
        >>> from distill_metrics import metric_names
        >>> "rougeL" in metric_names()
        True
    """
    from distill_metrics.registry import registered_names

    return (*METRIC_NAMES, *(name for name in registered_names() if name not in METRIC_NAMES))


def check_metric_names(names: Iterable[str], *, also: Iterable[str] = ()) -> tuple[str, ...]:
    """The names as a tuple, in their order, once all of them are known to exist.

    Loads nothing: a run file or a command line is checked with it before anything heavy is imported. Whether
    other distributions register metrics is only looked up for a name that is not one of this package's.

    Args:
        names: Names of metrics.
        also: What is allowed beside :func:`metric_names`, such as ``METRIC_GROUPS``.

    Raises:
        UnknownMetricError: There is no such metric (the nearest is named), or there is no name at all.

    Example:
        >>> from distill_metrics import UnknownMetricError, check_metric_names
        >>> try:
        ...     check_metric_names(["chrf", "rougel"])
        ... except UnknownMetricError as error:
        ...     print(error.found, "->", error.suggestion)
        rougel -> rougeL
    """
    chosen = (names,) if isinstance(names, str) else tuple(names)
    known = (*METRIC_NAMES, *also)
    if chosen and all(name in known for name in chosen):
        return chosen
    known = tuple(dict.fromkeys((*metric_names(), *known)))
    if not chosen:
        raise UnknownMetricError(
            f"No metric was named. Allowed: {', '.join(known)}.", field="metrics", allowed=known
        )
    for name in chosen:
        if name not in known:
            raise _unknown(name, known)
    return chosen


def lower_is_better(name: str) -> bool:
    """Whether a smaller value of this metric is the better one: error rates, perplexities, KL and ECE.

    Raises:
        UnknownMetricError: There is no such metric.

    Example:
        >>> from distill_metrics import lower_is_better
        >>> lower_is_better("wer"), lower_is_better("chrf")
        (True, False)
    """
    ours = (*ENCODER_METRIC_NAMES, *MODEL_METRIC_NAMES)
    (checked,) = check_metric_names((name,), also=ours)
    if checked in METRIC_NAMES or checked in ours:
        return checked in _LOWER_IS_BETTER
    from distill_metrics.registry import registered_metric

    registered = registered_metric(checked)
    return registered is not None and registered.lower_is_better


def _unknown(name: object, known: tuple[str, ...]) -> UnknownMetricError:
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    suggestion = by_lower[near[0]] if near else None
    hint = f" Did you mean {suggestion!r}?" if near else ""
    return UnknownMetricError(
        f"There is no metric {name!r}.{hint} Allowed: {', '.join(known)}.",
        field="metrics",
        found=name,
        allowed=known,
        suggestion=suggestion,
    )
