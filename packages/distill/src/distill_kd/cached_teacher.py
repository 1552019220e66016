"""A teacher whose distributions were cached: they are read from disk."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from distill_kd.cache_format import FORMAT, Columns, RowFacts, decode_top_k, row_facts
from distill_kd.errors import CacheError, CacheMismatchError
from distill_kd.teachers import DenseTarget, TopKTarget

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_kd.cache_survey import Collate, Rows
    from distill_kd.objective import Objective

HEADER = "cache.json"
TOKENIZER = "tokenizer"


class CachedTeacher:
    """What :func:`distill_kd.write_cache` wrote, as a :class:`distill_kd.Teacher` like the live one.

    Every byte is verified on opening. After that the files are mapped, not read, so that rows may come in any
    order and several processes share one copy in memory. A pickled teacher opens its files again.

    Args:
        folder: The cache.
        expected: The fingerprint that the cache must have, as :func:`distill_kd.cache_fingerprint` returns
            it, or any part of that, such as distill-datakit's fingerprint.

    Attributes:
        header: The description of the cache: ``task``, ``vocab_size``, ``k`` (None: dense),
            ``temperature``, ``epochs``, ``rows``, ``tokens``, ``bytes_per_token``, ``kl_error``,
            ``validation_score``, ``fingerprint``.
        config: The teacher's ``vocab_size`` (shared tokens) and ``decoder_start_token_id``.

    Raises:
        IntegrityError: A file was changed, or has no manifest.
        CacheMismatchError: A field of ``expected`` differs; or the format is another version's.
        NotADirectoryError: There is no such folder.
    """

    def __init__(self, folder: Path | str, *, expected: Mapping[str, str] | None = None) -> None:
        from distill_deploy import verify

        self.folder = Path(folder).absolute()
        verify(self.folder, require_manifest=True)
        self.header: dict[str, Any] = read_header(self.folder)
        compare_fingerprints(self.folder, self.header["fingerprint"], expected or {})
        self.config = SimpleNamespace(
            vocab_size=self.header["vocab_size"],
            decoder_start_token_id=self.header["decoder_start_token_id"],
        )
        self._open()

    def _open(self) -> None:
        """Map the files and read the place of each row."""
        from safetensors import safe_open

        self._shards: list[Columns] = []
        parts: list[tuple[Any, ...]] = []
        for number in range(self.header["shards"]):
            path = self.folder / shard_name(number)
            with safe_open(path, framework="pt") as file:
                columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            counts = columns.pop("count").numpy().astype(np.int64)
            row_ids, checks = columns.pop("row_id").numpy(), columns.pop("check").numpy().view(np.uint32)
            parts.append((row_ids, checks, np.full(len(counts), number), np.cumsum(counts) - counts, counts))
            self._shards.append(columns)
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        order = np.argsort(joined[0], kind="stable")
        self._row_ids, self._checks, self._shard, self._start, self._count = (part[order] for part in joined)

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map them again, unverified: they were verified where this comes from."""
        vars(self).update(state)
        self._open()

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase | None":
        """The teacher's tokenizer, where it had one; its name is that of the teacher's."""
        from transformers import AutoTokenizer

        if not (self.folder / TOKENIZER).is_dir():
            return None
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.folder / TOKENIZER)
        tokenizer.name_or_path = self.header["tokenizer"]
        return tokenizer

    def target(self, batch: Mapping[str, Tensor]) -> DenseTarget | TopKTarget:
        """Read the teacher's distributions for the rows of ``batch``.

        Args:
            batch: ``row_id``, ``(batch,)``, and the student's inputs and labels, ``(batch, seq)``.

        Returns:
            Zeros where no logits meet a label; on the device of the labels. Dense: the scores as the teacher
            gave them, in its dtype.

        Raises:
            CacheError: A row is not there, or was read by the teacher with other inputs or labels.
        """
        facts = row_facts(batch, self.header["task"])
        places = self._places(facts)
        spans = [(self._shard[at], self._start[at], self._start[at] + self._count[at]) for at in places]
        device, shards = batch["labels"].device, self._shards
        taken = {
            name: torch.cat([shards[shard][name][start:end] for shard, start, end in spans]).to(device)
            for name in shards[0]
        }
        valid = facts.valid.to(device)
        if self.header["k"] is None:
            return DenseTarget(_spread(taken["scores"], valid))
        ids, log_probs, tail = (_spread(part, valid) for part in decode_top_k(taken))
        return TopKTarget(ids, log_probs, tail, temperature=self.header["temperature"])

    def _places(self, facts: RowFacts) -> list[int]:
        """The place of each row of a batch in the index."""
        first = np.searchsorted(self._row_ids, facts.row_ids, side="left").tolist()
        last = np.searchsorted(self._row_ids, facts.row_ids, side="right").tolist()
        places = []
        for row_id, check, low, high in zip(facts.row_ids, facts.checks, first, last, strict=True):
            place = next((at for at in range(low, high) if self._checks[at] == check), None)
            if place is None:
                raise CacheError(self._why(row_id, there=high > low), field="row_id", found=row_id)
            places.append(place)
        return places

    def _why(self, row_id: int, *, there: bool) -> str:
        """Why a row is not found."""
        header = self.header
        if not there:
            return (
                f"row {row_id} is not in {self.folder}, which holds {header['rows']} rows. Write the cache "
                "over every split that is read, the validation split too."
            )
        if header["task"] == "masked":
            return (
                f"row {row_id} is masked in another way than in the {header['epochs']} epoch(s) that "
                f"{self.folder} holds: another seed or probability, or a later epoch. Cache more epochs "
                "(CacheConfig.epochs), or let the collator's set_epoch begin again after the last."
            )
        return (
            f"row {row_id} is in {self.folder}, but the teacher read other inputs or labels there. Tokenize "
            "with the same limits, or write the cache again."
        )

    def check_objective(self, objective: "Objective") -> None:
        """Refuse a loss that this cache cannot serve.

        Raises:
            CacheMismatchError: The task differs, or the cache is truncated and the temperature differs or the
                divergence needs all logits.
        """
        asked: dict[str, object] = {"task": objective.task}
        if self.header["k"] is not None:
            asked["temperature"] = objective.temperature
        for name, value in asked.items():
            cached = self.header[name]
            if cached != value:
                raise CacheMismatchError(
                    f"{self.folder} was made with {name} = {cached} and {value} is asked for. Write it "
                    "again; a dense cache (k = the vocabulary's size) serves every temperature.",
                    field=name,
                    found=value,
                    allowed=(cached,),
                    suggestion=cached,
                )
        if self.header["k"] is not None and objective.resolved.needs_all_logits:
            raise CacheMismatchError(
                f"{self.folder} holds {self.header['k']} tokens of each position, and "
                f"{objective.resolved.name} needs the logits of all. Use a divergence between probabilities "
                "(forward_kl), or write a dense cache (k = the vocabulary's size).",
                field="divergence",
                found=objective.resolved.name,
                suggestion="forward_kl",
            )

    def check_rows(self, rows: "Rows", collator: "Collate", *, epochs: int = 1) -> None:
        """Make sure that every row of a data set is there, as the collator gives it, before the first step.

        Raises:
            CacheError: One is not; the message names it and says why.
        """
        from distill_kd.cache_survey import survey

        entries = survey(rows, collator, self.header["task"], epochs)
        nothing = torch.empty(0)
        ids, checks = entries.row_ids.tolist(), entries.checks.tolist()
        self._places(RowFacts(ids, checks, nothing, [], []))


def _spread(values: Tensor, valid: Tensor) -> Tensor:
    """``(batch, seq, ...)`` with ``values``, ``(positions, ...)``, where ``valid``, and 0 elsewhere."""
    out = values.new_zeros(*valid.shape, *values.shape[1:])
    out[valid] = values
    return out


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def read_header(folder: Path) -> dict[str, Any]:
    """The description that a cache holds of itself.

    Raises:
        CacheMismatchError: It is not a cache, or is in another format.
    """
    path = folder / HEADER
    header: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if header.get("format") != FORMAT:
        raise CacheMismatchError(
            f"{folder} has format {header.get('format')!r}, and this version reads {FORMAT}: it is not the "
            "cache of a teacher, or one of another version. Write it again.",
            field="format",
            found=header.get("format"),
            allowed=(FORMAT,),
        )
    return header


def compare_fingerprints(folder: Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Refuse the first field that both have and that differs.

    Raises:
        CacheMismatchError: One does.
    """
    for name in sorted(found.keys() & expected.keys()):
        if found[name] != expected[name]:
            raise CacheMismatchError(
                f"{folder} was made from another {name}: {found[name][:16]} is cached and "
                f"{expected[name][:16]} is asked for. Use the {name} it was made from, or write it again.",
                field=name,
                found=expected[name],
                allowed=(found[name],),
            )
