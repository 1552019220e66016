"""Ask a teacher once and write down what it says; a kill at any moment loses little and harms nothing."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_kd.cache_format import (
    FORMAT,
    Columns,
    encode_top_k,
    kl_error,
    row_facts,
    valid_rows,
)
from distill_kd.cache_settings import CacheSettings, bytes_of, default_k
from distill_kd.cache_survey import (
    Collate,
    Entries,
    Rows,
    cache_fingerprint,
    set_epoch,
    survey,
)
from distill_kd.cached_teacher import HEADER, TOKENIZER, compare_fingerprints, read_header, shard_name
from distill_kd.errors import CacheError, CacheMismatchError, NonFiniteLogitsError
from distill_kd.settings import Task, check_task
from distill_kd.teachers import Teacher, TopKTarget
from distill_kd.vocabulary import check_vocabularies

_LOG = logging.getLogger(__name__)
_INDEX_BYTES = 16  # of a row: row_id, check and count
_SCORE_BYTES = 256 << 20  # of the teacher's scores held at once
_PROBED_ROWS, _PROBED_TOKENS = 64, 2048
Progress = Callable[[dict[str, float]], None]


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
        kl_error: Mean KL(teacher || stored), nats a token; 0 if dense.
        seconds: This call took.
    """

    folder: Path
    rows: int
    tokens: int
    size_bytes: int
    bytes_per_token: float
    k: int | None
    vocab_size: int
    kl_error: float
    seconds: float

    def __str__(self) -> str:
        """One line."""
        kept = f"all {self.vocab_size}" if self.k is None else f"{self.k} of {self.vocab_size:,}"
        return (
            f"{self.rows:,} rows, {self.tokens:,} positions, {kept} tokens each: "
            f"{self.bytes_per_token:.0f} bytes a position, {self.size_bytes / 1e6:,.1f} MB, "
            f"KL error {self.kl_error:.2g} nats"
        )


def write_cache(
    teacher: Teacher,
    rows: Rows,
    collator: Collate,
    folder: Path | str,
    *,
    task: Task,
    settings: CacheSettings | None = None,
    data_fingerprint: Mapping[str, str] | None = None,
    validation_score: float | None = None,
    on_progress: Progress | None = None,
) -> CacheReport:
    """Ask ``teacher`` about every row once; :class:`distill_kd.CachedTeacher` answers from then on.

    Killed at any moment, it goes on after the last whole shard when it is called again: until ``folder`` is
    there, whole and sealed, they stand in ``FOLDER.unfinished``, each sealed by itself. A finished cache of
    the same things is left as it is.

    Args:
        teacher: Asked in batches sorted by length; anything that returns dense targets.
        rows: Tokenized, each with a ``row_id`` of its own: all splits that a training will read.
        collator: As in training. For masked models its masks must be fixed by row and epoch.
        folder: Where the cache shall stand.
        task: "causal", "seq2seq" or "masked".
        settings: How much is kept.
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
    settings = settings or CacheSettings()
    if settings.epochs > 1 and task != "masked":
        raise CacheError(f"epochs = {settings.epochs} is for masked models; the rows of others never change.")
    start = time.monotonic()
    entries = survey(rows, collator, task, settings.epochs)
    fingerprint = {**cache_fingerprint(teacher, collator, data_fingerprint), "rows": entries.digest()}
    writer = _Writer(teacher, rows, collator, task, entries, Path(folder).absolute(), on_progress)
    if not writer.folder.exists():
        header = writer.planned(settings, fingerprint) or writer.plan(settings, fingerprint, validation_score)
        writer.write(header)
    header = read_header(writer.folder)
    _refuse_other(writer.folder, header, settings, fingerprint)
    shutil.rmtree(writer.work, ignore_errors=True)  # what a kill between the last two steps left
    report = _report(writer.folder, header, time.monotonic() - start)
    _LOG.info("%s: %s", writer.folder, report)
    return report


def _refuse_other(
    folder: Path, header: Mapping[str, Any], settings: CacheSettings, fingerprint: Mapping[str, str]
) -> None:
    """Refuse what was made from other things, or in another way."""
    compare_fingerprints(folder, header["fingerprint"], fingerprint)
    asked = _kept(settings)
    for name, value in header["settings"].items():
        if asked[name] != value:
            raise CacheMismatchError(
                f"{folder} was made with {name} = {value} and {asked[name]} is asked for. Ask for {value}, "
                "or choose another folder."
            )


def _kept(settings: CacheSettings) -> dict[str, Any]:
    """The settings that a cache's content depends on."""
    return {name: value for name, value in asdict(settings).items() if name != "max_bytes"}


def _report(folder: Path, header: Mapping[str, Any], seconds: float) -> CacheReport:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    names = ("rows", "tokens", "bytes_per_token", "k", "vocab_size", "kl_error")
    return CacheReport(
        folder=folder, size_bytes=size, seconds=seconds, **{name: header[name] for name in names}
    )


@dataclass
class _Writer:
    """One call of :func:`write_cache`."""

    teacher: Teacher
    rows: Rows
    collator: Collate
    task: Task
    entries: Entries
    folder: Path
    on_progress: Progress | None
    done: int = 0

    @property
    def work(self) -> Path:
        """Where whole shards wait for the last."""
        return self.folder.with_name(f"{self.folder.name}.unfinished")

    def planned(self, settings: CacheSettings, fingerprint: Mapping[str, str]) -> dict[str, Any] | None:
        """The plan of an unfinished cache, if it fits what is asked for; None if there is none."""
        from distill_deploy import verify

        plan = self.work / "plan"
        if not plan.is_dir():
            return None
        verify(plan, require_manifest=True)
        header = read_header(plan)
        _refuse_other(self.work, header, settings, fingerprint)
        return header

    def plan(
        self, settings: CacheSettings, fingerprint: Mapping[str, str], score: float | None
    ) -> dict[str, Any]:
        """Ask about a few rows, choose k, see that there is room, and write the plan."""
        from distill_deploy import staged

        probe, model_size, start_id = self._probe(settings)
        tokenizer: Any = getattr(self.teacher, "tokenizer", None)
        size = model_size
        if tokenizer is not None:
            shared = check_vocabularies(tokenizer, tokenizer, teacher_size=model_size)
            size = shared.tokens
            if shared.message:
                _LOG.warning("%s", shared.message)
        k = _chosen_k(settings, probe[:, :size])
        each = size * probe.element_size() if k is None else bytes_of(k, size)
        self._refuse_no_room(self.entries.tokens * each + len(self.entries) * _INDEX_BYTES, settings)
        header = {
            "format": FORMAT,
            "task": self.task,
            "vocab_size": size,
            "model_vocab_size": model_size,
            "k": k,
            "dtype": str(probe.dtype),
            "temperature": settings.temperature,
            "epochs": settings.epochs,
            "rows": self.entries.rows,
            "tokens": self.entries.tokens,
            "decoder_start_token_id": start_id,
            "tokenizer": tokenizer and str(tokenizer.name_or_path or type(tokenizer).__name__),
            "validation_score": score,
            "shards": len(self.entries.shards(settings.shard_tokens)),
            "settings": _kept(settings),
            "fingerprint": dict(fingerprint),
        }
        with staged(self.work / "plan") as staging:
            (staging / HEADER).write_text(json.dumps(header, indent=1), "utf-8")
        return header

    def _probe(self, settings: CacheSettings) -> tuple[Tensor, int, int | None]:
        """Scores of a few rows from all over, ``(positions, vocab)``; the vocabulary's size; the start id."""
        count = _PROBED_ROWS if settings.max_kl_error else 2
        chosen = torch.linspace(0, self.entries.rows - 1, min(count, self.entries.rows)).long().tolist()
        parts: list[Tensor] = []
        start_id = None
        for entry in chosen:
            batch = self._collated([entry])
            scores, start_id = self._ask(batch, None)
            parts.append(scores)
            if sum(map(len, parts)) >= _PROBED_TOKENS:
                break
        return torch.cat(parts)[:_PROBED_TOKENS], parts[0].shape[1], start_id

    def _refuse_no_room(self, needed: int, settings: CacheSettings) -> None:
        """Before the first byte."""
        what = f"{self.entries.tokens:,} positions take {needed:,} bytes"
        less = "Ask for a smaller k, or a larger max_kl_error."
        if settings.max_bytes is not None and needed > settings.max_bytes:
            raise CacheError(f"{what}, and max_bytes = {settings.max_bytes:,}. {less}")
        place = next(path for path in self.folder.parents if path.exists())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise CacheError(f"{what}, and {place} has {free:,} free. {less} Or choose another disk.")

    def write(self, header: dict[str, Any]) -> None:
        """Write what is missing, then put all together."""
        from distill_deploy import IntegrityError, staged, verify

        spans = self.entries.shards(header["settings"]["shard_tokens"])
        error = 0.0
        for number, span in enumerate(spans):
            place = self.work / f"shard-{number:05d}"
            try:
                error += float(verify(place, require_manifest=True).metadata["kl_error"])
                self.done += len(span)
                continue
            except NotADirectoryError:
                pass
            except IntegrityError as broken:
                _LOG.warning("%s; it is written anew.", broken)
                shutil.rmtree(place)
            columns, added = self._shard(span, header)
            with staged(place, metadata={"kl_error": repr(added)}) as staging:
                _save(columns, staging / shard_name(number))
            error += added
        stored = {name: header[name] for name in header}
        stored["kl_error"] = error / header["tokens"]
        with staged(self.folder) as staging:
            payload = 0
            for number in range(len(spans)):
                name = shard_name(number)
                _link(self.work / f"shard-{number:05d}" / name, staging / name)
                payload += (staging / name).stat().st_size
            stored["bytes_per_token"] = payload / header["tokens"]
            (staging / HEADER).write_text(json.dumps(stored, indent=1), "utf-8")
            tokenizer: Any = getattr(self.teacher, "tokenizer", None)
            if tokenizer is not None:
                tokenizer.save_pretrained(staging / TOKENIZER)

    def _shard(self, span: range, header: Mapping[str, Any]) -> tuple[Columns, float]:
        """The columns of a run of entries, in their order, and the sum of their KL errors."""
        limit = max(_SCORE_BYTES // (4 * header["model_vocab_size"]), 1)
        pieces: dict[int, Columns] = {}
        error = 0.0
        begun, asked = time.monotonic(), 0
        for group in self.entries.batches(span, limit):
            batch = self._collated(group)
            scores, _ = self._ask(batch, group)
            columns, added = _encoded(scores[:, : header["vocab_size"]], header)
            error += added
            counts = [int(count) for count in self.entries.counts[group]]
            split = {name: torch.split(column, counts) for name, column in columns.items()}
            for at, entry in enumerate(group):
                pieces[entry] = {name: parts[at] for name, parts in split.items()}
            self.done += len(group)
            asked += sum(counts)
            if self.on_progress is not None:
                rate = asked / max(time.monotonic() - begun, 1e-9)
                told = {"step": self.done, "total_steps": len(self.entries)}
                self.on_progress({**told, "tokens": asked, "tokens_per_second": rate})
        whole = {name: torch.cat([pieces[entry][name] for entry in span]) for name in pieces[span[0]]}
        chosen = slice(span.start, span.stop)
        whole["row_id"] = torch.from_numpy(self.entries.row_ids[chosen])
        whole["check"] = torch.from_numpy(self.entries.checks[chosen].astype("uint32").view("int32"))
        whole["count"] = torch.from_numpy(self.entries.counts[chosen].astype("int32"))
        return whole, error

    def _collated(self, group: Sequence[int]) -> Mapping[str, Tensor]:
        """Entries of one epoch, as the student will read them."""
        epoch, rows = group[0] // self.entries.rows, self.entries.rows
        set_epoch(self.collator, epoch)
        return self.collator([self.rows[entry - epoch * rows] for entry in group])

    def _ask(self, batch: Mapping[str, Tensor], group: Sequence[int] | None) -> tuple[Tensor, int | None]:
        """Scores of the positions that count, ``(positions, vocab)``, and the decoder's first id."""
        facts = row_facts(batch, self.task)
        if group is not None and facts.checks != self.entries.checks[group].tolist():
            raise CacheError("the rows changed while they were read; is somebody else writing the data?")
        first = None
        if self.task == "seq2seq":
            model: Any = getattr(self.teacher, "model", None)
            if "decoder_input_ids" not in batch and model is not None:
                made = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
                batch = {**batch, "decoder_input_ids": made}
            if "decoder_input_ids" in batch:
                first = int(batch["decoder_input_ids"][0, 0])
        target = self.teacher.target(batch)
        if isinstance(target, TopKTarget):
            raise CacheError("the teacher gives its likeliest tokens only; cache one that gives all.")
        scores = valid_rows(target.log_probs, facts.valid, target.log_probs.shape[-1])
        if torch.isnan(scores).any() or torch.isposinf(scores).any():
            raise NonFiniteLogitsError(
                f"the teacher's scores hold NaN or infinity in the rows {facts.row_ids[:8]}. Look at its "
                "weights and its dtype (float16 overflows in T5)."
            )
        return scores.clone(), first


def _log_probs(scores: Tensor, temperature: float) -> Tensor:
    return (scores.float() / temperature).log_softmax(-1)


def _encoded(scores: Tensor, header: Mapping[str, Any]) -> tuple[Columns, float]:
    """Columns of ``(positions, vocab)`` scores on the CPU, and the sum of their KL errors."""
    if header["k"] is None:
        return {"scores": scores.contiguous().cpu()}, 0.0
    log_probs = _log_probs(scores, header["temperature"])
    columns = encode_top_k(log_probs, header["k"])
    error = float(kl_error(log_probs, columns).sum())
    return {name: column.cpu() for name, column in columns.items()}, error


def _chosen_k(settings: CacheSettings, scores: Tensor) -> int | None:
    """The k that was asked for, or that the budget needs; None for dense."""
    size = scores.shape[1]
    if settings.max_kl_error is None:
        k = settings.k or default_k(size)
        return None if k >= size else k
    log_probs = _log_probs(scores, settings.temperature)
    k = 1
    while k < size and bytes_of(k, size) < size * scores.element_size():
        error = float(kl_error(log_probs, encode_top_k(log_probs, k)).mean())
        _LOG.info("k = %d: %d bytes a position, KL error %.3g nats", k, bytes_of(k, size), error)
        if error <= settings.max_kl_error:
            return k
        k = max(k + 1, k * 5 // 4)
    return None


def _save(columns: Columns, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: column.contiguous() for name, column in columns.items()}, path)


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes, or a copy where the disk knows no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
