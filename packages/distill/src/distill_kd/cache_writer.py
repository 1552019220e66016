"""Writing a cache: a plan, then shard after shard, each with its own manifest, then all under one."""

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

from distill_adapters import Task, decoder_inputs
from distill_kd.cache_config import CacheConfig, bytes_of, default_k
from distill_kd.cache_format import FORMAT, Columns, encode_top_k, kl_error, row_facts, top_k_of
from distill_kd.cache_survey import Collate, Entries, Rows, set_epoch
from distill_kd.cached_teacher import HEADER, TOKENIZER, compare_fingerprints, read_header, shard_name
from distill_kd.errors import CacheError, CacheMismatchError, NonFiniteLogitsError
from distill_kd.teachers import Teacher, TopKTarget
from distill_kd.vocabulary import check_vocabularies

_LOG = logging.getLogger(__name__)
_INDEX_BYTES = 16  # of a row: row_id, check and count
_SCORE_BYTES = 256 << 20  # of the teacher's scores held at once
_TOKENS_AT_ONCE = 4096  # in one batch: enough for any device, and a CPU's cache holds their activations
_ENCODED_SCORES = 1 << 22  # looked through at once: what fits the processor's cache is faster
_PROBED_ROWS, _PROBED_TOKENS = 64, 2048
Progress = Callable[[dict[str, float]], None]
Answer = tuple[
    Tensor, ...
]  # scores ``(positions, vocab)``, or ids, log-probabilities and tail of a few tokens


def refuse_other(
    folder: Path, header: Mapping[str, Any], config: CacheConfig, fingerprint: Mapping[str, str]
) -> None:
    """Refuse what was made from other things, or in another way.

    Raises:
        CacheMismatchError: The first field that differs is named.
    """
    compare_fingerprints(folder, header["fingerprint"], fingerprint)
    asked = _kept(config)
    for name, value in header["settings"].items():
        if asked[name] != value:
            raise CacheMismatchError(
                f"{folder} was made with {name} = {value} and {asked[name]} is asked for. Ask for {value}, "
                "or choose another folder.",
                field=name,
                found=asked[name],
                allowed=(value,),
                suggestion=value,
            )


def _kept(config: CacheConfig) -> dict[str, Any]:
    """The fields that a cache's content depends on."""
    return {name: value for name, value in asdict(config).items() if name != "max_bytes"}


@dataclass
class Writer:
    """One call of :func:`distill_kd.write_cache`; its arguments are described there."""

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

    def planned(self, config: CacheConfig, fingerprint: Mapping[str, str]) -> dict[str, Any] | None:
        """The plan of an unfinished cache, if it fits what is asked for; None if there is none."""
        from distill_deploy import verify

        plan = self.work / "plan"
        if not plan.is_dir():
            return None
        verify(plan, require_manifest=True)
        header = read_header(plan)
        refuse_other(self.work, header, config, fingerprint)
        return header

    def plan(
        self, config: CacheConfig, fingerprint: Mapping[str, str], score: float | None
    ) -> dict[str, Any]:
        """Ask about a few rows, choose k, see that there is room, and write the plan."""
        from distill_deploy import staged

        probe, start_id = self._probe(config)
        size, model_size = self._vocabulary(probe)
        k = _chosen_k(config, probe, size)
        each = size * probe[0].element_size() if k is None else bytes_of(k, size)
        self._refuse_no_room(self.entries.tokens * each + len(self.entries) * _INDEX_BYTES, config)
        tokenizer: Any = getattr(self.teacher, "tokenizer", None)
        header = {
            "format": FORMAT,
            "task": self.task,
            "vocab_size": size,
            "model_vocab_size": model_size,
            "k": k,
            "temperature": config.temperature,
            "epochs": config.epochs,
            "rows": self.entries.rows,
            "tokens": self.entries.tokens,
            "decoder_start_token_id": start_id,
            "tokenizer": tokenizer and str(tokenizer.name_or_path or type(tokenizer).__name__),
            "validation_score": score,
            "shards": len(self.entries.shards(config.shard_tokens)),
            "settings": _kept(config),
            "fingerprint": dict(fingerprint),
        }
        with staged(self.work / "plan") as staging:
            (staging / HEADER).write_text(json.dumps(header, indent=1), "utf-8")
        return header

    def _probe(self, config: CacheConfig) -> tuple[Answer, int | None]:
        """The teacher's distributions for a few rows from all over, and the decoder's first id."""
        count = min(_PROBED_ROWS if config.max_kl_error else 2, self.entries.rows)
        parts: list[Answer] = []
        start_id = None
        for entry in torch.linspace(0, self.entries.rows - 1, count).long().tolist():
            answer, start_id = self._ask(self._collated([entry]), [entry])
            parts.append(answer)
            if sum(len(part[0]) for part in parts) >= _PROBED_TOKENS:
                break
        return tuple(torch.cat(column)[:_PROBED_TOKENS] for column in zip(*parts, strict=True)), start_id

    def _vocabulary(self, probe: Answer) -> tuple[int, int]:
        """Tokens that are kept, and those that the teacher scores: more, where it is padded."""
        tokenizer: Any = getattr(self.teacher, "tokenizer", None)
        scored = probe[0].shape[1] if len(probe) == 1 else None
        if tokenizer is None:
            if scored is None:
                raise CacheError(
                    "a teacher that gives only its most likely tokens must have a tokenizer.", field="teacher"
                )
            return scored, scored
        shared = check_vocabularies(tokenizer, tokenizer, teacher_size=scored)
        if shared.message:
            _LOG.warning("%s", shared.message)
        return shared.tokens, scored or shared.tokens

    def _refuse_no_room(self, needed: int, config: CacheConfig) -> None:
        """Before the first byte."""
        what = f"{self.entries.tokens:,} positions take {needed:,} bytes"
        less = "Ask for a smaller k, or a larger max_kl_error."
        if config.max_bytes is not None and needed > config.max_bytes:
            raise CacheError(
                f"{what}, and max_bytes = {config.max_bytes:,}. {less}",
                field="max_bytes",
                found=config.max_bytes,
                suggestion=needed,
            )
        place = next(path for path in self.folder.parents if path.exists())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise CacheError(
                f"{what}, and {place} has {free:,} free. {less} Or choose another disk.",
                field="folder",
                found=self.folder,
            )

    def write(self, header: dict[str, Any]) -> None:
        """Write what is missing, then put all together."""
        from distill_deploy import staged

        spans = self.entries.shards(header["settings"]["shard_tokens"])
        errors = [self._sealed(number, span, header) for number, span in enumerate(spans)]
        known = [error for error in errors if error is not None]
        cached = {**header, "kl_error": sum(known) / header["tokens"] if known == errors else None}
        with staged(self.folder) as staging:
            payload = 0
            for number in range(len(spans)):
                name = shard_name(number)
                _link(self._place(number) / name, staging / name)
                payload += (staging / name).stat().st_size
            cached["bytes_per_token"] = payload / header["tokens"]
            (staging / HEADER).write_text(json.dumps(cached, indent=1), "utf-8")
            tokenizer: Any = getattr(self.teacher, "tokenizer", None)
            if tokenizer is not None:
                tokenizer.save_pretrained(staging / TOKENIZER)

    def _place(self, number: int) -> Path:
        """Where a shard waits."""
        return self.work / f"shard-{number:05d}"

    def _sealed(self, number: int, span: range, header: Mapping[str, Any]) -> float | None:
        """Write a shard, if it is not there whole; the sum of its KL errors, where they are known."""
        from safetensors.torch import save_file

        from distill_deploy import IntegrityError, staged, verify

        place = self._place(number)
        if place.is_dir():
            try:
                error = json.loads(verify(place, require_manifest=True).metadata["kl_error"])
            except IntegrityError as broken:
                _LOG.warning("%s; it is written again.", broken)
                shutil.rmtree(place)
            else:
                self.done += len(span)
                return None if error is None else float(error)
        columns, added = self._shard(span, header)
        with staged(place, metadata={"kl_error": json.dumps(added)}) as staging:
            save_file(columns, staging / shard_name(number))
        return added

    def _shard(self, span: range, header: Mapping[str, Any]) -> tuple[Columns, float | None]:
        """The columns of a run of entries, in their order, and the sum of their KL errors."""
        limit = min(max(_SCORE_BYTES // (4 * header["model_vocab_size"]), 1), _TOKENS_AT_ONCE)
        pieces: dict[int, Columns] = {}
        errors: list[float | None] = []
        begun, asked = time.monotonic(), 0
        for group in self.entries.batches(span, limit):
            answer, _ = self._ask(self._collated(group), group)
            columns, error = _encoded(answer, header)
            errors.append(error)
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
        whole["row_id"] = torch.from_numpy(self.entries.row_ids[chosen].copy())
        whole["check"] = torch.from_numpy(self.entries.checks[chosen].astype("uint32").view("int32"))
        whole["count"] = torch.from_numpy(self.entries.counts[chosen].astype("int32"))
        known = [error for error in errors if error is not None]
        return whole, sum(known) if known == errors else None

    def _collated(self, group: Sequence[int]) -> Mapping[str, Tensor]:
        """Entries of one epoch, as the student will read them."""
        epoch, rows = group[0] // self.entries.rows, self.entries.rows
        set_epoch(self.collator, epoch)
        return self.collator([self.rows[entry - epoch * rows] for entry in group])

    def _ask(self, batch: Mapping[str, Tensor], group: Sequence[int]) -> tuple[Answer, int | None]:
        """The teacher's distributions at the positions that count, and the decoder's first id."""
        facts = row_facts(batch, self.task)
        if facts.checks != self.entries.checks[group].tolist():
            raise CacheError(
                "the rows changed while they were read; is another process writing the data?", field="rows"
            )
        first = None
        if self.task == "seq2seq":
            model: Any = getattr(self.teacher, "model", None)
            if "decoder_input_ids" not in batch and model is not None:
                made = decoder_inputs(model, batch["labels"])
                batch = {**batch, "decoder_input_ids": made}
            if "decoder_input_ids" in batch:
                first = int(batch["decoder_input_ids"][0, 0])
        with torch.no_grad():
            target = self.teacher.target(batch)
            answer = target.rows(facts.valid.flatten().nonzero()[:, 0])
        highest = answer[0].amax(1)  # NaN is passed on
        if len(answer) == 1 and not torch.isfinite(highest).all():
            raise NonFiniteLogitsError(
                f"the teacher's logits hold NaN or infinity in the rows {facts.row_ids[:8]}. Look at its "
                "weights and its dtype (float16 overflows in T5).",
                field="teacher",
            )
        if isinstance(target, TopKTarget) and target.temperature != 1:
            raise CacheError(
                "a teacher that is a truncated cache of another temperature than 1 cannot be cached again.",
                field="teacher",
            )
        return answer, first


def _encoded(answer: Answer, header: Mapping[str, Any]) -> tuple[Columns, float | None]:
    """Columns on the CPU, and the sum of their KL errors; None where the whole distribution is not known."""
    size, k = header["vocab_size"], header["k"]
    if k is None:
        return {"scores": answer[0][:, :size].contiguous().cpu()}, 0.0
    if len(answer) == 3:
        return encode_top_k(*(part.cpu() for part in answer), vocab_size=size), None
    parts = []
    error = 0.0
    for scores in torch.split(answer[0][:, :size], max(_ENCODED_SCORES // size, 1)):
        columns, errors = _truncated(scores, k, header["temperature"])
        parts.append(columns)
        error += float(errors.sum())
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}, error


def _truncated(scores: Tensor, k: int, temperature: float) -> tuple[Columns, Tensor]:
    """Columns of the k most likely tokens, and the KL error of each position."""
    truth = top_k_of(scores.float() if temperature == 1 else scores.float() / temperature, k)
    columns = encode_top_k(truth.ids, truth.log_probs, truth.tail, vocab_size=truth.vocab_size)
    return columns, kl_error(truth, columns)


def _chosen_k(config: CacheConfig, probe: Answer, size: int) -> int | None:
    """The k that was asked for, or that the budget needs; None for dense."""
    if len(probe) == 3:
        k = probe[0].shape[1]
        defaults = {"max_kl_error": (None,), "temperature": (1,), "k": (None, k)}
        wrong = [name for name, allowed in defaults.items() if getattr(config, name) not in allowed]
        if wrong:
            raise CacheError(
                f"the teacher gives its {k} most likely tokens at temperature 1, and nothing else: leave k, "
                "max_kl_error and temperature as they are, and ask the teacher for another k.",
                field=wrong[0],
                found=getattr(config, wrong[0]),
                allowed=defaults[wrong[0]],
                suggestion=defaults[wrong[0]][0],
            )
        return k
    scores = probe[0][:, :size]
    if config.max_kl_error is None:
        k = config.k or default_k(size)
        return None if k >= size else k
    k = 1
    while k < size and bytes_of(k, size) < size * scores.element_size():
        error = float(_truncated(scores, k, config.temperature)[1].mean())
        _LOG.info("k = %d: %d bytes a position, KL error %.3g nats", k, bytes_of(k, size), error)
        if error <= config.max_kl_error:
            return k
        k = max(k + 1, k * 5 // 4)
    return None


def _link(source: Path, target: Path) -> None:
    """A hard link to the same bytes, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
