"""ROUGE with the digits of rouge-score, computed by rouge-score-rs."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol, cast

from distill_metrics.errors import SettingError
from distill_metrics.results import MetricResult, Reference, Statistics, ratio_percent, version_of
from distill_metrics.texts import Pairs, count_empty, pair

Tokenizer = Literal["rouge_score", "unicode", "character"]

_ADVICE = (
    'ROUGE\'s own tokenizer keeps a-z and 0-9 only; set tokenizer="unicode" (any script; "character" for '
    "Chinese, Japanese and Thai)."
)
# These share all but the counting; ROUGE-Lsum also splits sentences.
_TOGETHER = ("rouge1", "rouge2", "rougeL")
_LATIN = re.compile("[A-Za-z0-9]")


class _Tokenizer(Protocol):
    def tokenize(self, text: str) -> list[str]: ...


class _Score(Protocol):
    fmeasure: float


class _Scorer(Protocol):
    def score_batch(self, targets: list[str], predictions: list[str]) -> list[dict[str, _Score]]: ...

    def score_multi(self, targets: list[str], prediction: str) -> dict[str, _Score]: ...


def rouge1(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenizer: Tokenizer = "rouge_score",
    stemmer: bool | None = None,
) -> MetricResult:
    """ROUGE-1: F1 of the words that prediction and reference share, averaged over examples, in percent.

    With several references the one with the highest F1 counts. The default tokenizer gives the digits of
    rouge-score, which keeps ``a-z`` and ``0-9`` only (so "café" and "cafè" are equal to it); ``"unicode"``
    splits any script into words, ``"character"`` into characters, and to both a symbol such as an emoji is
    a word.

    Args:
        predictions: One text an example. An empty one scores 0 and is counted.
        references: One text or a list of texts an example.
        tokenizer: How texts become words; named in the signature.
        stemmer: Porter stemming (English). None: yes with ``"rouge_score"``, no otherwise.

    Raises:
        ShapeError: Predictions and references do not pair up.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: The tokenizer reduces a reference to nothing.
        SettingError: The tokenizer is unknown, or stemming is asked of another than ``"rouge_score"``.

    Example:
        >>> from distill_metrics import rouge1
        >>> result = rouge1(["the cat sat", "dogs bark"], ["the cat slept", ["a dog", "dogs bark"]])
        >>> [round(value, 1) for value in result.per_example]
        [66.7, 100.0]

    Source:
        Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"; rouge-score 0.1.2.
    """
    return rouge_statistics("rouge1", predictions, references, tokenizer=tokenizer, stemmer=stemmer).result()


def rouge2(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenizer: Tokenizer = "rouge_score",
    stemmer: bool | None = None,
) -> MetricResult:
    """ROUGE-2: as :func:`rouge1`, of pairs of neighbouring words.

    A text of one word has no pair and scores 0, identical or not: so defines it rouge-score.

    Example:
        >>> from distill_metrics import rouge2
        >>> round(rouge2(["the cat sat down"], ["the cat sat up"]).value, 2)
        66.67
    """
    return rouge_statistics("rouge2", predictions, references, tokenizer=tokenizer, stemmer=stemmer).result()


def rougeL(  # noqa: N802 - the metric's own name
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenizer: Tokenizer = "rouge_score",
    stemmer: bool | None = None,
) -> MetricResult:
    """ROUGE-L: as :func:`rouge1`, of the longest common subsequence of words.

    Example:
        >>> from distill_metrics import rougeL
        >>> rougeL(["кошка сидит"], ["кошка спит"], tokenizer="unicode").value
        50.0
    """
    return rouge_statistics("rougeL", predictions, references, tokenizer=tokenizer, stemmer=stemmer).result()


def rougeLsum(  # noqa: N802 - the metric's own name
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenizer: Tokenizer = "rouge_score",
    stemmer: bool | None = None,
) -> MetricResult:
    r"""ROUGE-Lsum: as :func:`rougeL`, sentence by sentence; sentences are separated by line ends.

    Example:
        >>> from distill_metrics import rougeLsum
        >>> rougeLsum(["one two\nthree four"], ["three four\none two"]).value
        100.0
    """
    return rouge_statistics(
        "rougeLsum", predictions, references, tokenizer=tokenizer, stemmer=stemmer
    ).result()


def rouge_statistics(
    name: str,
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    tokenizer: Tokenizer = "rouge_score",
    stemmer: bool | None = None,
) -> Statistics:
    """The F1 of each example and a one beside it, so that sums give means. Raises as :func:`rouge1`."""
    stems = _stems(tokenizer, stemmer=stemmer)
    pairs = pair(predictions, references)
    scores, empty = _scores(pairs, _TOGETHER if name in _TOGETHER else (name,), tokenizer, stems=stems)
    return Statistics(
        rows=[(float(score[name].fmeasure), 1.0) for score in scores],
        value=ratio_percent,
        is_ratio=True,
        per_example=True,
        signature=_signature(name, tokenizer, stems=stems),
        empty_predictions=empty,
    )


@lru_cache(maxsize=1)  # the variants of the same texts are computed once
def _scores(
    pairs: Pairs, names: tuple[str, ...], tokenizer: str, *, stems: bool
) -> tuple[list[dict[str, _Score]], int]:
    """The scores of each example by variant, and how many predictions the tokenizer reduces to nothing."""
    texts = (*pairs.predictions, *(text for row in pairs.references for text in row))
    symbols = tokenizer != "rouge_score" and any(map(_has_symbol, texts))
    scorer, is_empty = _scorer(names, tokenizer, stems=stems, symbols=symbols)
    advice = _ADVICE if tokenizer == "rouge_score" else "It holds no letter, digit or symbol; remove it."
    empty = count_empty(pairs, is_empty, advice=advice)
    if all(len(row) == 1 for row in pairs.references):
        return scorer.score_batch([row[0] for row in pairs.references], list(pairs.predictions)), empty
    multi = [
        scorer.score_multi(list(row), text)
        for row, text in zip(pairs.references, pairs.predictions, strict=True)
    ]
    return multi, empty


def _stems(tokenizer: str, *, stemmer: bool | None) -> bool:
    if tokenizer not in ("rouge_score", "unicode", "character"):
        raise SettingError(
            f"ROUGE has no tokenizer {tokenizer!r}. Allowed: rouge_score, unicode, character.",
            field="tokenizer",
            found=tokenizer,
            allowed=("rouge_score", "unicode", "character"),
            suggestion="unicode",
        )
    if stemmer and tokenizer != "rouge_score":
        raise SettingError(
            f"Stemming was asked for with tokenizer={tokenizer!r}, but the Porter stemmer is for English "
            'words; leave stemmer out, or set tokenizer="rouge_score".',
            field="stemmer",
            found=True,
            suggestion=False,
        )
    return tokenizer == "rouge_score" if stemmer is None else stemmer


class _WithSymbols:
    """A tokenizer that drops symbols (Unicode category So), made to keep each as a token of its own."""

    def __init__(self, inner: _Tokenizer) -> None:
        self._inner = inner

    def tokenize(self, text: str) -> list[str]:
        found: list[str] = []
        start = 0
        for place, character in enumerate(text):
            if unicodedata.category(character) == "So":
                found += [*self._inner.tokenize(text[start:place]), character]
                start = place + 1
        return found + self._inner.tokenize(text[start:])


def _has_symbol(text: str) -> bool:
    return not text.isascii() and any(unicodedata.category(character) == "So" for character in text)


@lru_cache(maxsize=32)
def _scorer(
    names: tuple[str, ...], tokenizer: str, *, stems: bool, symbols: bool
) -> tuple[_Scorer, Callable[[str], bool]]:
    from rouge_score_rs import rouge_scorer, tokenizers

    # The library publishes no types for these.
    build: Any = rouge_scorer.RougeScorer
    if tokenizer == "rouge_score":
        return cast("_Scorer", build(list(names), use_stemmer=stems)), _has_no_latin
    kind = tokenizers.UnicodeTokenizer if tokenizer == "unicode" else tokenizers.CharacterTokenizer
    words = cast("_Tokenizer", kind())
    if symbols:  # slower, so only where there are some
        words = _WithSymbols(words)
    return cast("_Scorer", build(list(names), tokenizer=words)), lambda text: not words.tokenize(text)


def _has_no_latin(text: str) -> bool:
    # A few other letters become Latin ones in lower case, such as the Kelvin sign.
    return _LATIN.search(text) is None and _LATIN.search(text.lower()) is None


def _signature(name: str, tokenizer: str, *, stems: bool) -> str:
    stem = "porter" if stems else "no"
    return f"{name}|f1|tok:{tokenizer}|stem:{stem}|rouge-score-rs:{version_of('rouge-score-rs')}"
