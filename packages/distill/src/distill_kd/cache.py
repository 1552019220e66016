"""Run a teacher once and cache its distributions; a kill at any moment loses little and damages nothing."""

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
    """What was written; as text, a summary in one line.

    Attributes:
        folder: The cache.
        rows: Number of rows in one epoch.
        tokens: Number of positions in all epochs.
        size_bytes: Size of all its files.
        bytes_per_token: Bytes of one position, its share of the index included.
        k: Number of tokens kept separate at each position; None if the cache is dense.
        vocab_size: Number of tokens that the teacher scores.
        kl_error: Mean KL(teacher || cached) in nats per token; 0 if dense, None if the teacher gave only its
            most likely tokens.
        seconds: Duration of the call.
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
    """Run ``teacher`` over every row once; :class:`distill_kd.CachedTeacher` serves the result from then on.

    A killed call is continued after the last complete shard by the next one; until then the shards are in
    ``FOLDER.unfinished``. A complete cache of the same data, teacher and configuration is left as it is.

    Args:
        teacher: Any teacher; it is given batches sorted by length.
        rows: Tokenized rows, each with a unique ``row_id``: all splits that the training will read.
        collator: The collator of the training. For masked models its masks must be fixed by row and epoch.
        folder: Where the cache is written.
        task: "causal", "seq2seq" or "masked".
        config: How much is kept.
        data_fingerprint: distill-datakit's, or further fields to be compared when the cache is used.
        validation_score: The teacher's cross-entropy on validation, which a training compares with its own.
        on_progress: Called after each batch with ``step, total_steps, tokens, tokens_per_second`` (rows).

    Returns:
        Size and error of the cache.

    Raises:
        CacheError: Rows, collator or teacher cannot be cached, or the cache would be larger than
            ``max_bytes`` or the disk; nothing is written then.
        CacheMismatchError: ``folder``, or the unfinished one, was made from something else.
        ConfigError: The task is unknown.
        NonFiniteLogitsError: The teacher's logits hold NaN or infinity.
        VocabularyError: The teacher scores fewer tokens than its tokenizer has.

    Example:
        >>> import torch
        >>> from transformers import AutoModelForCausalLM
        >>> from distill_kd import CacheConfig, LiveTeacher, write_cache
        >>> rows = [{"input_ids": [5, 6, 7, 8], "row_id": number} for number in range(4)]
        >>> def collate(rows):
        ...     ids = torch.tensor([row["input_ids"] for row in rows])
        ...     numbers = torch.tensor([row["row_id"] for row in rows])
        ...     return {"input_ids": ids, "labels": ids, "row_id": numbers}
        >>> teacher = LiveTeacher(AutoModelForCausalLM.from_pretrained("writer"))
        >>> report = write_cache(
        ...     teacher, rows, collate, "writer-cache", task="causal", config=CacheConfig(k=8)
        ... )
        >>> report.rows, report.tokens, report.k
        (4, 12, 8)
    """
    check_task(task)
    config = config or CacheConfig()
    start = time.monotonic()
    entries = survey(rows, collator, task, config.epochs)
    if entries.rows != len(rows):
        raise CacheError(
            f"{len(rows)} packed rows were given, of {entries.rows} texts. Write the cache over the rows as "
            "they were before they were packed: it serves packed batches as well.",
            field="rows",
        )
    fingerprint = {**cache_fingerprint(teacher, collator, data_fingerprint), "rows": entries.digest()}
    writer = Writer(teacher, rows, collator, task, entries, Path(folder).absolute(), on_progress)
    if not writer.folder.exists():
        writer.write(
            writer.planned(config, fingerprint) or writer.plan(config, fingerprint, validation_score)
        )
    header = read_header(writer.folder)
    refuse_other(writer.folder, header, config, fingerprint)
    shutil.rmtree(writer.work, ignore_errors=True)  # what a kill between the last two steps left
    return _report(writer.folder, header, time.monotonic() - start)


def _report(folder: Path, header: Mapping[str, Any], seconds: float) -> CacheReport:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    names = ("rows", "tokens", "bytes_per_token", "k", "vocab_size", "kl_error")
    report = CacheReport(
        folder=folder, size_bytes=size, seconds=seconds, **{name: header[name] for name in names}
    )
    _LOG.info("%s: %s", folder, report)
    return report
