"""Agreement of a student with its teacher, and calibration of a model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_metrics.arrays import IGNORED, as_array
from distill_metrics.errors import SettingError, ShapeError
from distill_metrics.results import MetricResult, Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Numbers of a block that is worked on in float64: 8 MiB.
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PlaceAgreement:
    """Agreement of a student with its teacher at some places of a text.

    Attributes:
        first: The first place, counted from 0.
        last: The last place.
        n: Number of positions there.
        kl: Mean KL(teacher || student), nats.
        top1_agreement: Share of them where the same token is the most likely for both, percent.
    """

    first: int
    last: int
    n: int
    kl: float
    top1_agreement: float


class Agreement:
    """Top-1 agreement, KL and entropy gap of a student and its teacher, gathered batch by batch.

    Three numbers a position, and its place, are kept, never the probabilities.
    """

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float64]] = []
        self._places: list[NDArray[np.int64]] = []

    def add(self, student: object, teacher: object, *, mask: object = None, places: object = None) -> None:
        """Count one batch.

        Args:
            student: Logits or log-probabilities ``(..., vocabulary)``, an array or a tensor of any dtype.
            teacher: The same of the teacher, for the same positions and vocabulary.
            mask: True where a position counts, of the shape without the vocabulary; None counts all.
            places: How far each position is from the start of its text, 0 or more, of the shape without the
                vocabulary; for :meth:`by_place`, which leaves out batches without.

        Raises:
            ShapeError: The shapes differ, the mask is not boolean, or a position holds NaN or no probability.
        """
        import numpy as np

        if _shape(student) != _shape(teacher):
            raise ShapeError(
                f"Student {_shape(student)} and teacher {_shape(teacher)} differ in shape; both are "
                "needed for the same positions and the same vocabulary.",
                field="student",
                found=_shape(student),
                allowed=(_shape(teacher),),
            )
        where: NDArray[np.int64] | None = None if places is None else as_array(places).astype(np.int64)
        if where is not None and where.shape != _shape(student)[:-1]:
            raise ShapeError(
                f"Places of shape {where.shape} do not fit log-probabilities {_shape(student)}.",
                field="places",
                found=where.shape,
                allowed=(_shape(student)[:-1],),
            )
        for rows in _blocks(student, mask):
            ours, theirs = _log_probabilities(student, rows), _log_probabilities(teacher, rows)
            p, q = np.exp(ours), np.exp(theirs)
            with np.errstate(invalid="ignore"):
                divergence = np.where(q > 0, q * (theirs - ours), 0.0).sum(axis=1)
                gap = (np.where(q > 0, q * theirs, 0.0) - np.where(p > 0, p * ours, 0.0)).sum(axis=1)
            same = (ours.argmax(axis=1) == theirs.argmax(axis=1)) * 100.0
            self._rows.append(np.stack([same, np.maximum(divergence, 0.0), gap], axis=1))
            self._places.append(np.full(len(rows), -1) if where is None else where.reshape(-1)[rows])

    def results(self) -> dict[str, MetricResult]:
        """``top1_agreement`` in percent, ``kl`` and ``entropy_gap`` in nats; means over positions.

        KL is of the teacher from the student, KL(teacher || student). A positive gap says that the student is
        less certain than its teacher.

        Raises:
            ShapeError: No position was counted.
        """
        import numpy as np

        rows = np.concatenate(self._rows) if self._rows else np.zeros((0, 3))
        if not len(rows):
            raise ShapeError("No position was counted; at least one is needed.")
        described: tuple[tuple[str, Unit, str], ...] = (
            ("top1_agreement", "percent", "ties to the lower id"),
            ("kl", "nats", "teacher from student"),
            ("entropy_gap", "nats", "student minus teacher"),
        )
        return {
            name: MetricResult(
                value=float(rows[:, column].mean()),
                unit=unit,
                n=len(rows),
                signature=f"{name}|{detail}|mean over positions|float64",
                per_example=tuple(rows[:, column].tolist()),
            )
            for column, (name, unit, detail) in enumerate(described)
        }

    def by_place(self) -> tuple[PlaceAgreement, ...]:
        """The same by the place in the text: 0, 1, 2 to 3, 4 to 7 and so on, where there are positions.

        A student that drifts from its teacher shows it in the later places.
        """
        import numpy as np

        rows = np.concatenate([*self._rows, np.zeros((0, 3))])
        places = np.concatenate([*self._places, np.zeros(0, dtype=np.int64)])
        bins = np.where(places < 0, -1, np.floor(np.log2(np.maximum(places, 0.5))).astype(np.int64) + 1)
        found = []
        for number in np.unique(bins[bins >= 0]).tolist():
            (same, divergence, _), n = rows[bins == number].mean(axis=0).tolist(), int((bins == number).sum())
            first, last = (2**number) // 2, max(0, 2**number - 1)
            found.append(PlaceAgreement(first=first, last=last, n=n, kl=divergence, top1_agreement=same))
        return tuple(found)


def top1_agreement(student: object, teacher: object, *, mask: object = None) -> MetricResult:
    """Share of positions where both prefer the same token, in percent; see :class:`Agreement`.

    Example:
        >>> from distill_metrics import top1_agreement
        >>> student, teacher = [[2.0, 0.0], [0.0, 1.0]], [[3.0, 1.0], [1.0, 0.0]]
        >>> top1_agreement(student, teacher).value
        50.0
    """
    return _agreement(student, teacher, mask)["top1_agreement"]


def kl(student: object, teacher: object, *, mask: object = None) -> MetricResult:
    """Mean KL(teacher || student) of the positions, in nats; see :class:`Agreement`.

    Example:
        >>> from distill_metrics import kl
        >>> round(kl([[0.0, 0.0]], [[2.0, 0.0]]).value, 4)
        0.3278
    """
    return _agreement(student, teacher, mask)["kl"]


def entropy_gap(student: object, teacher: object, *, mask: object = None) -> MetricResult:
    """Mean entropy of the student minus that of the teacher, in nats; see :class:`Agreement`.

    Example:
        >>> from distill_metrics import entropy_gap
        >>> round(entropy_gap([[0.0, 0.0]], [[5.0, 0.0]]).value, 3)  # the student is less certain
        0.653
    """
    return _agreement(student, teacher, mask)["entropy_gap"]


def _agreement(student: object, teacher: object, mask: object) -> dict[str, MetricResult]:
    gathered = Agreement()
    gathered.add(student, teacher, mask=mask)
    return gathered.results()


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Positions whose most likely token was given a probability within ``low`` to ``high``.

    Attributes:
        low: The lower end, itself outside, but for 0.
        high: The upper end.
        n: Positions.
        confidence: Mean probability of their most likely tokens, 0 to 1.
        accuracy: Share of them where that token is right, 0 to 1.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Calibration:
    """Whether a model is right as often as it is confident, gathered batch by batch.

    Positions are sorted into ``bins`` of equal width by the probability of their most likely token; only sums
    are kept.

    Args:
        bins: Number of bins.

    Raises:
        SettingError: ``bins`` is not positive.

    Source:
        Guo et al. 2017, arXiv:1706.04599, equation 3.
    """

    def __init__(self, bins: int = 15) -> None:
        import numpy as np

        if bins < 1:
            raise SettingError(
                f"{bins} bins were asked for; at least 1 is needed.", field="bins", found=bins, suggestion=15
            )
        self._sums = np.zeros((bins, 3))
        self._seen = 0

    def add(self, log_probs: object, labels: object) -> None:
        """Count one batch.

        Args:
            log_probs: Logits or log-probabilities ``(..., vocabulary)``.
            labels: The right token of each position, -100 where it does not count.

        Raises:
            ShapeError: The shapes differ, or a position holds NaN.
        """
        import numpy as np

        given, bins = as_array(labels), len(self._sums)
        right = given.reshape(-1)
        self._seen += right.size
        for rows in _blocks(log_probs, given != IGNORED):
            found = _log_probabilities(log_probs, rows)
            confidence = np.exp(found.max(axis=1))
            hit = found.argmax(axis=1) == right[rows]
            # Bins are open below and closed above, as in the paper.
            place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
            for column, weights in enumerate((None, confidence, hit)):
                self._sums[:, column] += np.bincount(place, weights=weights, minlength=bins)

    def result(self) -> MetricResult:
        """``ece``, percent: gaps between probability and accuracy of the bins, weighted by their positions.

        Raises:
            ShapeError: No position was counted.
        """
        import numpy as np

        n = int(self._sums[:, 0].sum())
        if not n:
            raise ShapeError(
                f"None of the {self._seen} labels counts: all are {IGNORED}, or there are none.",
                field="labels",
            )
        return MetricResult(
            value=100.0 * float(np.abs(self._sums[:, 1] - self._sums[:, 2]).sum()) / n,
            unit="percent",
            n=n,
            signature=f"ece|bins:{len(self._sums)}, equal width|float64",
        )

    def bins(self) -> tuple[ReliabilityBin, ...]:
        """The bins that hold positions, from low to high."""
        count = len(self._sums)
        return tuple(
            ReliabilityBin(
                low=number / count,
                high=(number + 1) / count,
                n=int(n),
                confidence=sure / n,
                accuracy=hits / n,
            )
            for number, (n, sure, hits) in enumerate(self._sums.tolist())
            if n
        )


def ece(log_probs: object, labels: object, *, bins: int = 15) -> MetricResult:
    """Expected calibration error: how far confidence and accuracy are apart, in percent.

    See :class:`Calibration`, whose arguments and errors these are.

    Example:
        >>> import math
        >>> from distill_metrics import ece
        >>> log_probs = [[math.log(0.75), math.log(0.25)]] * 4
        >>> round(ece(log_probs, [0, 0, 0, 0]).value, 2)  # sure of 75 %, always right
        25.0
    """
    gathered = Calibration(bins)
    gathered.add(log_probs, labels)
    return gathered.result()


def _shape(values: Any) -> tuple[int, ...]:
    shape = getattr(values, "shape", None)
    return tuple(as_array(values).shape if shape is None else shape)


def _blocks(values: object, mask: object) -> Iterator["NDArray[np.intp]"]:
    """Numbers of the positions that count, a bounded part of ``values`` at a time."""
    import numpy as np

    shape = _shape(values)
    if len(shape) < 2:
        raise ShapeError(
            f"Log-probabilities of shape {shape} lack a vocabulary: (..., vocabulary).",
            field="log_probs",
            found=shape,
        )
    keep = np.ones(shape[:-1], dtype=bool) if mask is None else as_array(mask)
    if keep.dtype != bool:
        raise ShapeError(
            f"A mask of {keep.dtype} was given; booleans are needed: labels != {IGNORED}.",
            field="mask",
            found=str(keep.dtype),
            allowed=("bool",),
        )
    if keep.shape != shape[:-1]:
        raise ShapeError(
            f"A mask or labels of shape {keep.shape} do not fit log-probabilities {shape}.",
            field="mask",
            found=keep.shape,
            allowed=(shape[:-1],),
        )
    rows = np.flatnonzero(keep)
    size = max(1, _BLOCK // max(1, shape[-1]))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _log_probabilities(values: Any, rows: "NDArray[np.intp]") -> "NDArray[np.float64]":
    """float64 ``(rows, vocabulary)``, normalised; what is normalised already stays as it is."""
    import numpy as np

    if hasattr(values, "detach"):
        import torch

        block = as_array(values.reshape(-1, values.shape[-1])[torch.as_tensor(rows, device=values.device)])
    else:
        array = np.asarray(values)
        block = array.reshape(-1, array.shape[-1])[rows]
    found = block.astype(np.float64)
    top = found.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        bad = int(rows[np.flatnonzero(~np.isfinite(top[:, 0]))[0]])
        raise ShapeError(
            f"Position {bad} holds NaN, infinity or no probability at all; nothing is counted.",
            field="log_probs",
            found=float(top[np.flatnonzero(~np.isfinite(top[:, 0]))[0], 0]),
        )
    shifted: NDArray[np.float64] = found - top
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised
