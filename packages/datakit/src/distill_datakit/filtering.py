"""Leave out teacher generations that would teach the wrong thing."""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from distill_datakit.errors import OptionError
from distill_datakit.files import Row


@dataclass(kw_only=True)
class GenerationFilter:
    """Passes good generations on and counts the others by reason.

    ``rows = GenerationFilter(max_length_ratio=3.0)(generations)``; then look at ``dropped``.

    Attributes:
        min_length_ratio: The smallest number of output characters for each input character. None sets no
            limit.
        max_length_ratio: The largest number of output characters for each input character. None sets no
            limit.
        max_compression: The largest factor by which zlib may shorten the output. Repetitive text compresses
            well; Whisper takes a factor above 2.4 for a loop. None sets no limit.
        metric: A function from a row to its quality, such as a score against a reference that the caller
            finds by ``id``.
        min_metric: The smallest value of ``metric``. A value that is not a number fails too.
        min_score: The smallest ``score``. A row without a score fails. None sets no limit.
        dedupe: Whether to drop rows whose input and output were seen before, whatever their ids.
        dropped: The number of dropped rows by reason: ``empty``, ``short``, ``long``, ``repetitive``,
            ``metric``, ``score`` or ``duplicate``.
        kept: The number of rows that passed.

    Raises:
        OptionError: ``metric`` without ``min_metric``, or the other way round.

    Source:
        Compression ratio: Radford et al. 2022, section 4.5, arXiv:2212.04356.
    """

    min_length_ratio: float | None = None
    max_length_ratio: float | None = None
    max_compression: float | None = 2.4
    metric: Callable[[Mapping[str, object]], float] | None = None
    min_metric: float | None = None
    min_score: float | None = None
    dedupe: bool = True
    dropped: Counter[str] = field(default_factory=Counter)
    kept: int = 0

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if (self.metric is None) != (self.min_metric is None):
            raise OptionError(
                "metric and min_metric belong together: give both or neither.",
                field="min_metric", found=self.min_metric)  # fmt: skip

    def __call__(self, rows: Iterable[Mapping[str, object]]) -> Iterator[Row]:
        """The rows that pass, one by one, as they come."""
        seen: set[tuple[str, str]] = set()
        for row in rows:
            reason = self._reason(row)
            pair = (str(row["input"]), str(row["output"]))
            if reason is None and self.dedupe and pair in seen:
                reason = "duplicate"
            if reason is None:
                seen.add(pair)
                self.kept += 1
                yield dict(row)
            else:
                self.dropped[reason] += 1

    def _reason(self, row: Mapping[str, object]) -> str | None:
        """Why it is left out; the cheap reasons first."""
        output, score = str(row["output"]), row.get("score")
        ratio = len(output) / max(len(str(row["input"])), 1)
        if not output.strip():
            return "empty"
        if self.min_length_ratio is not None and ratio < self.min_length_ratio:
            return "short"
        if self.max_length_ratio is not None and ratio > self.max_length_ratio:
            return "long"
        if self.max_compression is not None and compression(output) > self.max_compression:
            return "repetitive"
        if self.min_score is not None and not (isinstance(score, int | float) and score >= self.min_score):
            return "score"
        if self.metric is not None and self.min_metric is not None:
            value = self.metric(row)
            if math.isnan(value) or value < self.min_metric:
                return "metric"
        return None


def compression(text: str) -> float:
    """How many times shorter zlib makes a text, in bytes of UTF-8; about 1 for short ones."""
    plain = text.encode("utf-8", "surrogatepass")
    return len(plain) / len(zlib.compress(plain))
