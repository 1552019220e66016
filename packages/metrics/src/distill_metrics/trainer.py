"""``HFMetricHelper``: a ``compute_metrics`` for ``transformers.Trainer`` that scores decoded text."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from distill_metrics.arrays import IGNORED, as_array
from distill_metrics.classification import accuracy, f1
from distill_metrics.errors import EmptyPredictionsWarning, EmptyTextError, SettingError, ShapeError
from distill_metrics.names import ENCODER_METRIC_NAMES, check_metric_names
from distill_metrics.results import Reference
from distill_metrics.scoring import score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)

Task = Literal["causal", "seq2seq", "masked"]
OwnMetric = Callable[[Sequence[str], Sequence[Reference]], float]
"""A metric of one's own: predictions and references in, a number out."""

# Of ids, not of texts: of the words that a masked model fills in, or of the next token.
_LABEL_METRICS = {"accuracy": accuracy, "f1": f1}
_DEFAULT_METRICS = ("rouge1", "rouge2", "rougeL", "bleu")


class _Tokenizer(Protocol):
    pad_token_id: int | None

    def __len__(self) -> int: ...

    def batch_decode(self, sequences: list[list[int]], *, skip_special_tokens: bool) -> Sequence[str]: ...


class HFMetricHelper:
    """Scores what a model said in an evaluation loop: pass the object itself as ``compute_metrics``.

    Takes ids or logits, tuples whose first member they are, -100, and rows that other batches padded; gives
    percentages rounded to four digits. Default metrics: rouge1, rouge2, rougeL and bleu, and bertscore_f1
    where an encoder is named.

    Args:
        tokenizer: Any transformers tokenizer: ``batch_decode``, ``pad_token_id`` and a length are used.
        metrics: Names out of ``METRIC_NAMES`` and ``ENCODER_METRIC_NAMES``; ``"accuracy"`` and ``"f1"`` of
            the tokens at the labels (ids or logits of the labels' shape); and functions of your own
            ``(predictions, references) -> float``, which give their value under their name. None takes the
            default.
        task: ``"causal"`` moves logits by one position, as the model's own loss does; others stay.
        encoder: Folder or hub name of the encoder of BERTScore. It is loaded now, so that a mistake shows
            before training, and keeps the vectors of the references from one evaluation to the next.
        settings: Settings a metric, such as ``{"rougeL": {"tokenizer": "unicode"}}``.

    Raises:
        UnknownMetricError: A metric does not exist; the nearest is named.
        SettingError: BERTScore is named without an encoder, or the encoder cannot be loaded.
        MissingExtraError: The extra ``[bertscore]`` is needed and not installed.
    """

    def __init__(
        self,
        tokenizer: _Tokenizer,
        metrics: Sequence[str | OwnMetric] | None = None,
        *,
        task: Task | None = None,
        encoder: str | Path | None = None,
        settings: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        named, self.own = _split(metrics)
        self.label_metrics = tuple(name for name in named if name in _LABEL_METRICS)
        named = tuple(name for name in named if name not in _LABEL_METRICS)
        self._defaults = metrics is None
        if self._defaults:
            named = (*_DEFAULT_METRICS, *(("bertscore_f1",) if encoder is not None else ()))
        self.metrics = named
        self.task = task
        self.settings = _with_encoder(named, settings or {}, encoder)
        self._predictions: list[str] = []
        self._references: list[str] = []
        self._labels: list[tuple[NDArray[np.generic], NDArray[np.generic]]] = []
        self._undecodable = 0
        if self._defaults and encoder is None:
            _LOG.warning(
                "No metrics were named: %s are computed. bertscore_f1 is left out, because it needs an "
                "encoder: HFMetricHelper(tokenizer, encoder=FOLDER) adds it.",
                ", ".join(self.metrics),
            )

    def __call__(self, eval_pred: object, *, compute_result: bool = True) -> dict[str, float]:
        """The same as :meth:`compute`."""
        return self.compute(eval_pred, compute_result=compute_result)

    def compute(self, eval_pred: object, *, compute_result: bool = True) -> dict[str, float]:
        """Score one evaluation, or gather one batch of it.

        Args:
            eval_pred: A ``transformers.EvalPrediction`` or a tuple of predictions and labels. Predictions are
                ids ``(batch, seq)``, logits ``(batch, seq, vocab)``, or a tuple that starts with one of them.
                Logits count where the label is not -100.
            compute_result: False gathers texts and gives ``{}``: with ``batch_eval_metrics=True`` the Trainer
                passes True on the last batch only, so no logits are kept.

        Returns:
            For each metric its value in percent, rounded to four digits. All predictions empty, as an early
            checkpoint's may be: an ``EmptyPredictionsWarning``, and 0 (error rates: all wrong).

        Raises:
            ShapeError: Predictions and labels do not fit together.
            EmptyTextError: A row of labels decodes to nothing that a named metric could count.
        """
        predictions, labels = _parts(eval_pred)
        ids = self._ids(predictions, labels)
        self._predictions += self._decode(ids)
        self._references += self._decode(labels)
        if self.label_metrics:
            self._gather_labels(ids, labels)
        if not compute_result:
            return {}
        said, right = self._predictions, self._references
        self._predictions, self._references = [], []
        return {**self.score(said, right), **self._score_labels()}

    def preprocess_logits(self, logits: object, labels: object) -> object:
        """For ``preprocess_logits_for_metrics``: ids out of logits, so that the Trainer keeps no logits.

        Args:
            logits: Tensor ``(batch, seq, vocab)`` or a tuple that starts with one.
            labels: Tensor ``(batch, seq)``, -100 where a position does not count.

        Returns:
            Ids ``(batch, seq)``, -100 where a label is -100; a tensor beside ``labels`` if that is one.
        """
        ids = self._ids(as_array(logits), as_array(labels))
        maker = getattr(labels, "new_tensor", None)
        return ids if maker is None else maker(ids.tolist())

    def score(self, predictions: Sequence[str], references: Sequence[Reference]) -> dict[str, float]:
        """The same percentages for texts: what the inference script writes. Tokens have no part in it.

        Raises:
            ShapeError: Predictions and references do not pair up.
            EmptyTextError: A reference holds nothing that a named metric could count. One of the default
                metrics is then left out with a warning instead, so that no training ends for it.
        """
        if predictions and not any(text.strip() for text in predictions):
            warnings.warn(
                f"All {len(predictions)} predictions are empty; they score 0.",
                EmptyPredictionsWarning,
                stacklevel=2,
            )
        values: dict[str, float] = {}
        for name in self.metrics:
            own = {name: self.settings[name]} if name in self.settings else None
            try:
                found = score(predictions, references, metrics=[name], interval=None, settings=own)
            except EmptyTextError as error:
                if not self._defaults:
                    raise
                _LOG.warning("The default metric %s is left out: %s", name, error)
                continue
            values[name] = round(found[name].value, 4)
        for function in self.own:
            values[_name_of(function)] = round(float(function(predictions, references)), 4)
        return values

    def _gather_labels(self, ids: "NDArray[np.generic]", labels: "NDArray[np.generic]") -> None:
        if ids.shape != labels.shape:
            raise ShapeError(
                f"{', '.join(self.label_metrics)} compare a token a label, but ids {ids.shape} and labels "
                f"{labels.shape} differ in shape; generated texts need other metrics, such as exact_match.",
                field="metrics",
                found=self.label_metrics,
                suggestion="exact_match",
            )
        keep = labels != IGNORED
        self._labels.append((ids[keep], labels[keep]))

    def _score_labels(self) -> dict[str, float]:
        import numpy as np

        if not self.label_metrics:
            return {}
        said, right = (np.concatenate(side) for side in zip(*self._labels, strict=True))
        self._labels = []
        return {name: round(_LABEL_METRICS[name](said, right).value, 4) for name in self.label_metrics}

    def _ids(
        self, predictions: "NDArray[np.generic]", labels: "NDArray[np.generic]"
    ) -> "NDArray[np.generic]":
        """Ids ``(batch, seq)`` out of ids or logits."""
        import numpy as np

        if predictions.ndim == 2:
            _check_rows(predictions, labels)
            return predictions
        if predictions.ndim != 3 or predictions.shape[:2] != labels.shape:
            raise ShapeError(
                f"Predictions of shape {predictions.shape} do not fit labels of shape {labels.shape}; ids "
                "(batch, seq) or logits (batch, seq, vocab) with labels (batch, seq) are needed.",
                field="eval_pred",
                found=predictions.shape,
                allowed=(labels.shape,),
            )
        best = predictions.argmax(axis=-1)
        if self.task == "causal":
            # The logits at t speak about the label at t + 1.
            best = np.concatenate([np.full_like(best[:, :1], IGNORED), best[:, :-1]], axis=1)
        return np.where(labels == IGNORED, IGNORED, best)

    def _decode(self, ids: "NDArray[np.generic]") -> list[str]:
        import numpy as np

        size, numbers = len(self.tokenizer), ids.astype(np.int64)
        unknown = (numbers >= size) | ((numbers < 0) & (numbers != IGNORED))
        if unknown.any():
            self._undecodable += int(unknown.sum())
            _LOG.warning(
                "%d ids outside the vocabulary of %d were taken as padding.", self._undecodable, size
            )
        kept = [[int(i) for i in row[(row >= 0) & (row < size)]] for row in numbers]
        return [text.strip() for text in self.tokenizer.batch_decode(kept, skip_special_tokens=True)]


def _split(metrics: Sequence[str | OwnMetric] | None) -> tuple[tuple[str, ...], tuple[OwnMetric, ...]]:
    """Names and functions apart."""
    given = (metrics,) if isinstance(metrics, str) else tuple(metrics or ())
    own = tuple(one for one in given if not isinstance(one, str) and callable(one))
    named = tuple(one for one in given if isinstance(one, str) or not callable(one))
    if metrics is not None and (named or not own):
        check_metric_names(named, also=(*ENCODER_METRIC_NAMES, *_LABEL_METRICS))
    return named, own


def _name_of(function: OwnMetric) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _with_encoder(
    metrics: Sequence[str], settings: Mapping[str, Mapping[str, object]], encoder: str | Path | None
) -> dict[str, Mapping[str, object]]:
    """The settings, with the encoder in those that need one; it is loaded, to fail here or never."""
    found = dict(settings)
    for name in metrics:
        if name not in ENCODER_METRIC_NAMES:
            continue
        own = {**({} if encoder is None else {"encoder": encoder}), **settings.get(name, {})}
        if "encoder" not in own:
            raise SettingError(
                f"{name} needs an encoder: HFMetricHelper(tokenizer, ..., encoder=FOLDER).", field="encoder"
            )
        from distill_metrics.encoder import encoder_of

        found[name] = own
        options: Any = {key: own[key] for key in ("layer", "known_as", "device") if key in own}
        encoder_of(cast("str", own["encoder"]), **options)
    return found


def _parts(eval_pred: object) -> tuple["NDArray[np.generic]", "NDArray[np.generic]"]:
    predictions = getattr(eval_pred, "predictions", None)
    labels = getattr(eval_pred, "label_ids", None)
    if predictions is None and isinstance(eval_pred, (tuple, list)) and len(eval_pred) >= 2:
        predictions, labels = eval_pred[0], eval_pred[1]
    if predictions is None or labels is None:
        raise ShapeError(
            "Both predictions and labels are needed; one of them is None.", field="eval_pred", found=None
        )
    return as_array(predictions), as_array(labels)


def _check_rows(predictions: "NDArray[np.generic]", labels: "NDArray[np.generic]") -> None:
    if labels.ndim != 2 or len(predictions) != len(labels):
        raise ShapeError(
            f"Ids of shape {predictions.shape} do not fit labels of shape {labels.shape}; the same number of "
            "rows is needed.",
            field="eval_pred",
            found=predictions.shape,
            allowed=(labels.shape,),
        )
