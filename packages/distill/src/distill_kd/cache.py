"""Ask a teacher once and write down what it says; a kill at any moment loses little and harms nothing."""

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_adapters import Task
from distill_kd.cache_config import CacheConfig
from distill_kd.cache_survey import Collate, Rows, cache_fingerprint, survey
from distill_kd.cache_writer import Progress, Writer, refuse_other
from distill_kd.cached_teacher import read_header
from distill_kd.config import check_task
from distill_kd.errors import CacheError
from distill_kd.teachers import Teacher

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheReport:
    """What was written; as text, one line that says it.

    Attributes:
        folder: The cache.
        rows: Rows in one epoch.
        tokens: Positions, in all epochs.
        size_bytes: Of all its files.
        bytes_per_token: ``size_bytes`` of positions and index, a position.
        k: Tokens kept at each position; None if dense.
        vocab_size: Of how many.
        kl_error: Mean KL(teacher || stored), nats a token; 0 if dense, None if the
            teacher told its likeliest tokens only.
        seconds: This call took.
    """

    folder: Path
    rows: int
    tokens: int
    size_bytes: int
    bytes_per_token: float
    k: int | None
    vocab_size: int
    kl_error: float | None
    seconds: float

    def __str__(self) -> str:
        """One line."""
        kept = f"all {self.vocab_size}" if self.k is None else f"{self.k} of {self.vocab_size:,}"
        return (
            f"{self.rows:,} rows, {self.tokens:,} positions, {kept} tokens each: "
            f"{self.bytes_per_token:.0f} bytes a position, {self.size_bytes / 1e6:,.1f} MB, "
            f"KL error {'unknown' if self.kl_error is None else f'{self.kl_error:.2g} nats'}"
        )


def write_cache(
    teacher: Teacher,
    rows: Rows,
    collator: Collate,
    folder: Path | str,
    *,
    task: Task,
    config: CacheConfig | None = None,
    data_fingerprint: Mapping[str, str] | None = None,
    validation_score: float | None = None,
    on_progress: Progress | None = None,
) -> CacheReport:
    """Ask ``teacher`` about every row once; :class:`distill_kd.CachedTeacher` answers from then on.

    Killed at any moment, it goes on after the last whole shard when it is called again: until ``folder`` is
    there, whole and sealed, they stand in ``FOLDER.unfinished``, each sealed by itself. A finished cache of
    the same things is left as it is.

    Args:
        teacher: Asked in batches sorted by length; anything that is one.
        rows: Tokenized, each with a ``row_id`` of its own: all splits that a training will read.
        collator: As in training. For masked models its masks must be fixed by row and epoch.
        folder: Where it shall stand.
        task: "causal", "seq2seq" or "masked".
        config: How much is kept.
        data_fingerprint: distill-datakit's, or further fields to be compared when the cache is used.
        validation_score: The teacher's, for whoever reads the cache.
        on_progress: Told after each batch: ``step`` and ``total_steps`` in rows, ``tokens``,
            ``tokens_per_second``.

    Returns:
        Size and error of the cache.

    Raises:
        CacheError: Rows, collator or teacher cannot be cached, or the cache would be larger than
            ``max_bytes`` or the disk; nothing is written then.
        CacheMismatchError: ``folder``, or the unfinished one, was made from something else.
        NonFiniteLogitsError: The teacher says NaN.
        VocabularyError: The teacher scores fewer tokens than its tokenizer has.
    """
    check_task(task)
    config = config or CacheConfig()
    start = time.monotonic()
    entries = survey(rows, collator, task, config.epochs)
    if entries.rows != len(rows):
        raise CacheError(
            f"{len(rows)} packed rows were given, of {entries.rows} texts. Write the cache over the rows as "
            "they were before they were packed: it serves packed batches as well."
        )
    fingerprint = {**cache_fingerprint(teacher, collator, data_fingerprint), "rows": entries.digest()}
    writer = Writer(teacher, rows, collator, task, entries, Path(folder).absolute(), on_progress)
    if not writer.folder.exists():
        plan = writer.planned(config, fingerprint)
        writer.write(plan or writer.plan(config, fingerprint, validation_score))
    header = read_header(writer.folder)
    refuse_other(writer.folder, header, config, fingerprint)
    shutil.rmtree(writer.work, ignore_errors=True)  # what a kill between the last two steps left
    report = _report(writer.folder, header, time.monotonic() - start)
    _LOG.info("%s: %s", writer.folder, report)
    return report


def _report(folder: Path, header: Mapping[str, Any], seconds: float) -> CacheReport:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    names = ("rows", "tokens", "bytes_per_token", "k", "vocab_size", "kl_error")
    return CacheReport(
        folder=folder, size_bytes=size, seconds=seconds, **{name: header[name] for name in names}
    )
