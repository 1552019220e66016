"""BERTScore: each token matched with the most similar token of the other text."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from distill_metrics.baseline import read_baseline, shipped_baseline
from distill_metrics.encoder import Encoder, encoder_of
from distill_metrics.errors import EmptyTextError, SettingError
from distill_metrics.matching import Scores, inverse_frequencies, match, token_weights
from distill_metrics.results import MetricResult, Reference, Statistics, ratio_percent, version_of
from distill_metrics.texts import Pairs, count_empty, is_blank, pair

if TYPE_CHECKING:
    import torch

_COLUMNS = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
# Examples whose predictions are held as vectors at a time.
_CHUNK = 1024


def bertscore_f1(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    encoder: str | Path | Encoder,
    layer: int | None = None,
    idf: bool = False,
    rescale: bool = False,
    baseline: str | Path | None = None,
    lang: str | None = None,
    known_as: str | None = None,
    device: str | None = None,
) -> MetricResult:
    """BERTScore F1, averaged over examples, in percent, with the digits of bert_score.

    A token counts by its highest cosine similarity to a token of the other text: averaged over the tokens of
    the reference that is recall, over those of the prediction precision. The best reference counts.

    Args:
        predictions: One text an example. An empty one scores a raw 0 and is counted.
        references: One text or a list of texts an example.
        encoder: Folder of a model, a model of the hub (which is then downloaded), or an :class:`Encoder`.
        layer: How many of its layers are used; None as in :class:`Encoder`.
        idf: Whether tokens count by how rare they are in these references.
        rescale: Whether a baseline is subtracted so that unrelated texts score about 0; below 0 is possible.
        baseline: A file of ``distill-metrics baseline``.
        lang: Take the baseline that bert-score ships for this language, such as ``"it"``.
        known_as: The name under which bert-score knows the encoder.
        device: A torch device.

    Raises:
        ShapeError: Predictions and references do not pair up.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A reference is blank, or holds no token that counts.
        SettingError: No such encoder or layer; rescaling without a baseline, or a baseline without rescaling.
        FileFormatError: The baseline file is not one.
        MissingExtraError: The extra ``[bertscore]`` is not installed.

    Example:
        >>> from distill_metrics import bertscore_f1
        >>> result = bertscore_f1(["w1 w2", "w5 w6"], ["w1 w2", "w7 w8 w9"], encoder="filler", layer=1)
        >>> round(result.per_example[0], 2), result.per_example[1] < 100
        (100.0, True)

    Source:
        Zhang et al. 2020, arXiv:1904.09675; bert-score 0.3.13.
    """
    return bertscore_statistics(
        "bertscore_f1",
        predictions,
        references,
        encoder=encoder,
        layer=layer,
        idf=idf,
        rescale=rescale,
        baseline=baseline,
        lang=lang,
        known_as=known_as,
        device=device,
    ).result()


def bertscore_precision(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    encoder: str | Path | Encoder,
    layer: int | None = None,
    idf: bool = False,
    rescale: bool = False,
    baseline: str | Path | None = None,
    lang: str | None = None,
    known_as: str | None = None,
    device: str | None = None,
) -> MetricResult:
    """BERTScore precision; settings and errors are those of :func:`bertscore_f1`.

    Example:
        >>> from distill_metrics import bertscore_precision
        >>> result = bertscore_precision(["w1", "w5"], ["w1 w2", "w5"], encoder="filler", layer=1)
        >>> round(result.per_example[1], 2), result.n
        (100.0, 2)
    """
    return bertscore_statistics(
        "bertscore_precision",
        predictions,
        references,
        encoder=encoder,
        layer=layer,
        idf=idf,
        rescale=rescale,
        baseline=baseline,
        lang=lang,
        known_as=known_as,
        device=device,
    ).result()


def bertscore_recall(
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    encoder: str | Path | Encoder,
    layer: int | None = None,
    idf: bool = False,
    rescale: bool = False,
    baseline: str | Path | None = None,
    lang: str | None = None,
    known_as: str | None = None,
    device: str | None = None,
) -> MetricResult:
    """BERTScore recall; settings and errors are those of :func:`bertscore_f1`.

    Example:
        >>> from distill_metrics import bertscore_recall
        >>> result = bertscore_recall(["w1 w2", "w5"], ["w1", "w5"], encoder="filler", layer=1)
        >>> round(result.per_example[1], 2), result.n
        (100.0, 2)
    """
    return bertscore_statistics(
        "bertscore_recall",
        predictions,
        references,
        encoder=encoder,
        layer=layer,
        idf=idf,
        rescale=rescale,
        baseline=baseline,
        lang=lang,
        known_as=known_as,
        device=device,
    ).result()


def bertscore_statistics(
    name: str,
    predictions: Sequence[str],
    references: Sequence[Reference],
    *,
    encoder: str | Path | Encoder,
    layer: int | None = None,
    idf: bool = False,
    rescale: bool = False,
    baseline: str | Path | None = None,
    lang: str | None = None,
    known_as: str | None = None,
    device: str | None = None,
) -> Statistics:
    """The score of each example and a one beside it. Raises as :func:`bertscore_f1`."""
    pairs = pair(predictions, references)
    count_empty(pairs, is_blank)
    _check(rescale=rescale, baseline=baseline, lang=lang)
    chosen = encoder_of(encoder, layer=layer, known_as=known_as, device=device)
    base: Scores | None = None
    if baseline is not None:
        base = read_baseline(baseline, chosen.layer)
    elif lang is not None:
        base = shipped_baseline(chosen, lang)
    scores, empty = _scores(chosen, pairs, idf=idf)
    column = _COLUMNS.index(name)
    values = [row[column] for row in scores]
    if base is not None:
        values = [(value - base[column]) / (1.0 - base[column]) for value in values]
    return Statistics(
        rows=[(value, 1.0) for value in values],
        value=ratio_percent,
        is_ratio=True,
        per_example=True,
        signature=_signature(name, chosen, idf=idf, base=base and base[column]),
        empty_predictions=empty,
    )


@lru_cache(maxsize=1)  # precision, recall and F1 of the same texts are computed once
def _scores(encoder: Encoder, pairs: Pairs, *, idf: bool) -> tuple[list[Scores], int]:
    """Precision, recall and F1 of each example, and how many predictions hold no token that counts."""
    weights = (
        inverse_frequencies(encoder, [text for row in pairs.references for text in row]) if idf else None
    )
    scores: list[Scores] = []
    empty = 0
    for start in range(0, len(pairs.predictions), _CHUNK):
        rows = pairs.references[start : start + _CHUNK]
        texts = pairs.predictions[start : start + _CHUNK]
        right = encoder.encode([text for row in rows for text in row], keep=True)
        said = encoder.encode(texts)
        heavy = {text: token_weights(encoded, encoder, weights) for text, encoded in right.items()}
        for number, (text, row) in enumerate(zip(texts, rows, strict=True), start=start):
            _refuse_weightless(number, row, heavy, idf=idf)
            own = token_weights(said[text], encoder, weights)
            if own is None:
                empty += 1
                scores.append((0.0, 0.0, 0.0))
                continue
            found = [match(said[text], right[one], own, cast("torch.Tensor", heavy[one])) for one in row]
            p, r, f = (max(column) for column in zip(*found, strict=True))
            scores.append((p, r, f))
    return scores, empty


def _refuse_weightless(number: int, row: Sequence[str], heavy: Mapping[str, object], *, idf: bool) -> None:
    for text in row:
        if heavy[text] is None:
            why = (
                "no token that idf gives a weight; set idf=False" if idf else "no token; use another encoder"
            )
            raise EmptyTextError(
                f"The reference of example {number} holds {why}, or remove the example.",
                field="references",
                found=number,
            )


def _check(*, rescale: bool, baseline: object, lang: str | None) -> None:
    if baseline is not None and lang is not None:
        raise SettingError(
            f"Both baseline={str(baseline)!r} and lang={lang!r} were given; one is enough.",
            field="lang",
            found=lang,
        )
    if rescale and baseline is None and lang is None:
        raise SettingError(
            "rescale=True was asked for without a baseline. Name the file that `distill-metrics baseline` "
            "computes as baseline, or a lang for which bert-score ships one.",
            field="baseline",
        )
    if not rescale and (baseline is not None or lang is not None):
        raise SettingError(
            "A baseline was named, but rescale is not set: set rescale=True.",
            field="rescale",
            found=False,
            allowed=(True,),
            suggestion=True,
        )


def _signature(name: str, encoder: Encoder, *, idf: bool, base: float | None) -> str:
    return "|".join(
        (
            name,
            f"encoder:{Path(encoder.name).name}",
            f"weights:{encoder.fingerprint}",
            f"layer:{encoder.layer}/{encoder.depth}",
            f"idf:{'yes' if idf else 'no'}",
            f"baseline:{'none' if base is None else base}",
            f"torch:{version_of('torch')}",
            f"transformers:{version_of('transformers')}",
        )
    )
