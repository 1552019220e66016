"""BLEU, chrF and TER: sacrebleu's numbers behind a check of the shapes that sacrebleu does not make."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from distill_metrics.errors import SettingError
from distill_metrics.results import MetricResult, Reference, Statistics
from distill_metrics.texts import Pairs, count_empty, is_blank, pair

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreMetric

Smoothing = Literal["exp", "floor", "add-k", "none"]

# BLEU multiplies the precisions of 1- to 4-grams.
_BLEU_ORDER = 4


def bleu(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    smoothing: Smoothing = "exp",
) -> MetricResult:
    """Corpus BLEU of sacrebleu, in percent.

    Args:
        predictions: One text an example.
        references: One text or a list of texts an example.
        tokenize: A tokenizer of sacrebleu: ``"13a"``, ``"intl"``, ``"char"``, ``"zh"``, ``"none"`` ...
        lowercase: Whether case is ignored.
        smoothing: What an n-gram order without a match counts.

    Raises:
        ShapeError: Predictions and references do not pair up (sacrebleu 2.6.0 would score 100).
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A reference is blank, or no reference has four tokens, where BLEU is undefined.
        SettingError: sacrebleu has no such tokenizer or smoothing.

    Example:
        >>> from distill_metrics import bleu
        >>> result = bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
        >>> round(result.value, 2)
        53.73

    Source:
        Papineni et al. 2002; Post 2018, arXiv:1804.08771.
    """
    return bleu_statistics(
        predictions, references, tokenize=tokenize, lowercase=lowercase, smoothing=smoothing
    ).result()


def bleu_smoothed(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> MetricResult:
    """Corpus BLEU where an order without a match counts 0.1 matches, as NLTK's ``method1``.

    Raises as :func:`bleu`.

    Example:
        >>> from distill_metrics import bleu_smoothed
        >>> result = bleu_smoothed(["the dog ran on a mat"], ["the cat sat on the mat"])
        >>> round(result.value, 2)
        5.37

    Source:
        Chen and Cherry 2014, method 1; ``nltk.translate.bleu_score.SmoothingFunction.method1``.
    """
    return bleu_statistics(
        predictions, references, tokenize=tokenize, lowercase=lowercase, smoothing="floor"
    ).result()


def chrf(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    word_order: int = 0,
    lowercase: bool = False,
    whitespace: bool = False,
) -> MetricResult:
    """Character n-gram F-score of sacrebleu, in percent; the best reference of each example counts.

    Args:
        predictions: One text an example.
        references: One text or a list of texts an example.
        word_order: Longest word n-gram that counts beside the characters: 0 for chrF, 2 for chrF++.
        lowercase: Whether case is ignored.
        whitespace: Whether blanks count as characters.

    Raises:
        ShapeError: Predictions and references do not pair up.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A reference is blank.
        SettingError: ``word_order`` is negative.

    Example:
        >>> from distill_metrics import chrf
        >>> result = chrf(["colour", "centre"], [["color", "colour"], "center"])
        >>> [round(value, 2) for value in result.per_example]
        [100.0, 40.56]

    Source:
        Popović 2015, 2017.
    """
    return chrf_statistics(
        predictions, references, word_order=word_order, lowercase=lowercase, whitespace=whitespace
    ).result()


def chrfpp(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    lowercase: bool = False,
    whitespace: bool = False,
) -> MetricResult:
    """chrF++: :func:`chrf` with words and pairs of words.

    Example:
        >>> from distill_metrics import chrfpp
        >>> round(chrfpp(["the cats sat"], ["the cat sat"]).value, 2)
        64.44
    """
    return chrf_statistics(
        predictions, references, word_order=2, lowercase=lowercase, whitespace=whitespace
    ).result()


def ter(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    normalized: bool = False,
    case_sensitive: bool = False,
) -> MetricResult:
    """Translation edit rate of sacrebleu, in percent: edits and block moves per reference word.

    Lower is better.

    Raises:
        ShapeError: Predictions and references do not pair up.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A reference is blank.

    Example:
        >>> from distill_metrics import ter
        >>> ter(["on the mat the cat sat"], ["the cat sat on the mat"]).per_example[0] < 20  # one block move
        True

    Source:
        Snover et al. 2006.
    """
    return ter_statistics(
        predictions, references, normalized=normalized, case_sensitive=case_sensitive
    ).result()


def bleu_statistics(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    smoothing: Smoothing = "exp",
) -> Statistics:
    """Lengths, matches and n-grams of each example. Raises as :func:`bleu`, but short references later."""
    from sacrebleu.metrics.bleu import BLEU

    if smoothing not in BLEU.SMOOTH_DEFAULTS:
        raise SettingError(
            f"BLEU has no smoothing {smoothing!r}. Allowed: {', '.join(BLEU.SMOOTH_DEFAULTS)}.",
            field="smoothing",
            found=smoothing,
            allowed=tuple(BLEU.SMOOTH_DEFAULTS),
            suggestion="exp",
        )
    if tokenize not in BLEU.TOKENIZERS:
        raise SettingError(
            f"BLEU has no tokenizer {tokenize!r}. Allowed: {', '.join(BLEU.TOKENIZERS)}.",
            field="tokenize",
            found=tokenize,
            allowed=tuple(BLEU.TOKENIZERS),
            suggestion="13a",
        )
    pairs = pair(predictions, references)
    metric = BLEU(lowercase=lowercase, tokenize=tokenize, smooth_method=smoothing, force=True)
    statistics = _statistics("bleu", metric, pairs, per_example=False)
    # Column 1 is the length of the closest reference: cheap to look at before tokenizing again.
    if all(row[1] < _BLEU_ORDER for row in statistics.rows):
        return replace(statistics, undefined=_too_short(pairs, metric.tokenizer, tokenize))
    return statistics


def chrf_statistics(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    word_order: int = 0,
    lowercase: bool = False,
    whitespace: bool = False,
) -> Statistics:
    """n-gram counts of each example. Raises as :func:`chrf`."""
    from sacrebleu.metrics.chrf import CHRF

    if word_order < 0:
        raise SettingError(
            f"chrF was asked for word_order={word_order}; 0 (chrF), 1, 2 (chrF++) are allowed.",
            field="word_order",
            found=word_order,
            allowed=(0, 1, 2),
            suggestion=0,
        )
    metric = CHRF(word_order=word_order, lowercase=lowercase, whitespace=whitespace)
    name = "chrfpp" if word_order else "chrf"
    return _statistics(name, metric, pair(predictions, references), per_example=True)


def ter_statistics(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    normalized: bool = False,
    case_sensitive: bool = False,
) -> Statistics:
    """Edits and mean reference length of each example. Raises as :func:`ter`."""
    from sacrebleu.metrics.ter import TER

    metric = TER(normalized=normalized, case_sensitive=case_sensitive)
    return _statistics("ter", metric, pair(predictions, references), per_example=True)


def _statistics(name: str, metric: "SacreMetric", pairs: Pairs, *, per_example: bool) -> Statistics:
    empty = count_empty(pairs, is_blank)
    # The streams hold None where an example has fewer references, as sacrebleu documents but does not type.
    streams: Any = pairs.streams()
    rows = metric._extract_corpus_statistics(pairs.predictions, streams)
    _forget(getattr(metric, "tokenizer", None))
    return Statistics(
        rows=rows,
        value=_value(metric),
        is_ratio=False,
        per_example=per_example,
        signature=f"{name}|{metric.get_signature().format()}",
        empty_predictions=empty,
    )


def _forget(tokenizer: object) -> None:
    """Free the texts that sacrebleu's tokenizers keep, up to 65,536, for this tokenizer object alone."""
    for one in (tokenizer, getattr(tokenizer, "_post_tokenizer", None)):
        clear = getattr(type(one).__call__, "cache_clear", None)
        if clear is not None:
            clear()


def _value(metric: "SacreMetric") -> Callable[[Sequence[float]], float]:
    # A fresh list each time: add-k smoothing writes into what it is given.
    return lambda row: float(metric._compute_score_from_stats(list(row)).score)


def _too_short(pairs: Pairs, tokenizer: Callable[[str], str], tokenize: str) -> str | None:
    if any(len(tokenizer(text).split()) >= _BLEU_ORDER for row in pairs.references for text in row):
        return None
    return (
        f"No reference has {_BLEU_ORDER} tokens with tokenize={tokenize!r}, so BLEU is undefined: it would "
        'be 0 for identical texts. Use chrf, or tokenize="zh" or "char" where no blanks stand between words.'
    )
