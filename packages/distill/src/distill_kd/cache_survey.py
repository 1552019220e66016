"""What a cache will hold, determined before the teacher runs: rows, their keys, their positions."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from distill_adapters import Task
from distill_kd.cache_format import row_facts
from distill_kd.errors import CacheError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = dict[str, Any]  # tokenized: lists of ids, and the row's number
Rows = Sequence[Row]
Collate = Callable[[list[Row]], Mapping[str, Tensor]]
_AT_ONCE = 256  # rows collated together while nothing but their labels is looked at
_TRIED = 8  # rows collated again, to see whether they come out the same


@dataclass(frozen=True)
class Entries:
    """Every row of every epoch, in the order of the rows, epoch after epoch.

    Attributes:
        row_ids: int64, ``(entries,)``; so are the others.
        checks: CRC-32 of what the teacher reads there.
        counts: Positions that meet a label.
        lengths: Tokens, the longer of inputs and labels.
        rows: Rows in one epoch.
    """

    row_ids: "NDArray[np.int64]"
    checks: "NDArray[np.int64]"
    counts: "NDArray[np.int64]"
    lengths: "NDArray[np.int64]"
    rows: int

    def __len__(self) -> int:
        """Rows times epochs."""
        return len(self.row_ids)

    @property
    def tokens(self) -> int:
        """Positions in all."""
        return int(self.counts.sum())

    def digest(self) -> str:
        """SHA-256 of which rows there are and what the teacher reads in them."""
        return hashlib.sha256(np.stack([self.row_ids, self.checks, self.counts]).tobytes()).hexdigest()

    def shards(self, shard_tokens: int) -> list[range]:
        """Entries cut into runs of about ``shard_tokens`` positions, none across an epoch; at most ~1,000."""
        size = max(shard_tokens, self.tokens // 1000)
        before = np.cumsum(self.counts) - self.counts
        epoch = np.arange(len(self)) // max(self.rows, 1)
        new = np.flatnonzero((np.diff(before // size) != 0) | (np.diff(epoch) != 0)) + 1
        bounds = [0, *new.tolist(), len(self)]
        return [range(first, last) for first, last in pairwise(bounds)]

    def batches(self, entries: Sequence[int], limit: int) -> Iterator[list[int]]:
        """``entries`` sorted by length, in groups of at most ``limit`` tokens with their padding."""
        group: list[int] = []
        for entry in sorted(entries, key=lambda entry: (self.lengths[entry], entry)):
            if group and (len(group) + 1) * self.lengths[entry] > limit:
                yield group
                group = []
            group.append(entry)
        if group:
            yield group


def set_epoch(collator: Collate, epoch: int) -> None:
    """Set the epoch of a collator whose masks depend on it."""
    tell = getattr(collator, "set_epoch", None)
    if tell is not None:
        tell(epoch)


def survey(rows: Rows, collator: Collate, task: Task, epochs: int) -> Entries:
    """Collate every row once, without asking the teacher.

    Raises:
        CacheError: There are no rows or no labels; two rows share a ``row_id``; or a row comes out different
            when it is collated again: its mask is not a function of row and epoch.
    """
    if epochs > 1 and task != "masked":
        raise CacheError(
            f"epochs = {epochs} is for masked models; the rows of others never change.",
            field="epochs",
            found=epochs,
            allowed=(1,),
            suggestion=1,
        )
    if not len(rows):
        raise CacheError("there are no rows to run the teacher on.", field="rows")
    if epochs > 1 and not hasattr(collator, "set_epoch"):
        raise CacheError(
            f"epochs = {epochs} was asked for, but the collator has no set_epoch(epoch) to change its masks.",
            field="collator",
        )
    found: list[tuple[list[int], list[int], list[int], list[int]]] = []
    for epoch in range(epochs):
        set_epoch(collator, epoch)
        for first in range(0, len(rows), _AT_ONCE):
            chosen = [rows[index] for index in range(first, min(first + _AT_ONCE, len(rows)))]
            facts = row_facts(collator(chosen), task)
            if first == 0:
                _refuse_random(chosen[:_TRIED], facts.checks, collator, task)
            found.append((facts.row_ids, facts.checks, facts.counts, facts.lengths))
    columns = [np.concatenate([np.asarray(part[i], np.int64) for part in found]) for i in range(4)]
    entries = Entries(
        columns[0], columns[1], columns[2], columns[3], rows=len(columns[0]) // epochs
    )  # packed rows hold several
    ids, times = np.unique(entries.row_ids[: entries.rows], return_counts=True)
    if len(ids) != entries.rows:
        raise CacheError(
            f"row_id {ids[times > 1][0]} occurs {times.max()} times; a cache needs a unique one for each "
            "row. Tokenize all splits together, or number the rows again.",
            field="row_id",
            found=int(ids[times > 1][0]),
        )
    if not entries.tokens:
        raise CacheError(
            f"none of the {len(rows)} rows has a label; there is nothing to cache.", field="labels"
        )
    return entries


def _refuse_random(rows: list[Row], checks: list[int], collator: Collate, task: Task) -> None:
    """Collate the first rows one by one, the last one first: nothing may depend on batch or order."""
    parts = [row_facts(collator([row]), task).checks for row in reversed(rows)]
    again = [check for part in reversed(parts) for check in part]
    if again != checks[: len(again)]:
        raise CacheError(
            "the collator gives the same rows other inputs or labels the second time, so a cached "
            "distribution would not fit them. A cache needs masks that are fixed by row and epoch, as "
            "distill_datakit.collator makes them; or use the live teacher.",
            field="collator",
        )


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's weights and buffers: names, dtypes, shapes and bytes, as they are in memory."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not isinstance(value, Tensor):
            continue
        data = value.detach().cpu().contiguous()
        total.update(f"{name} {data.dtype} {tuple(data.shape)}\n".encode())
        total.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def vocabulary_digest(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer's token -> id map."""
    return hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def cache_fingerprint(
    teacher: object, collator: object = None, data_fingerprint: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What a cache of this teacher over this data is made from, as a mapping from field to SHA-256 or text.

    Args:
        teacher: ``model``, ``dtype`` and ``vocabulary`` come from its ``model`` and ``tokenizer``, or from
            its own ``fingerprint``.
        collator: Its ``fingerprint``, such as distill-datakit's ``masking``, is taken over.
        data_fingerprint: Further fields, such as distill-datakit's ``data, preprocessing, tokenizer,
            template, masking``.

    Returns:
        The fields; :func:`distill_kd.write_cache` adds ``rows``.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> from distill_kd import LiveTeacher, cache_fingerprint
        >>> teacher = LiveTeacher(AutoModelForCausalLM.from_pretrained("writer"))
        >>> fields = cache_fingerprint(teacher, data_fingerprint={"data": "0123abcd"})
        >>> sorted(fields), fields["dtype"]
        (['data', 'dtype', 'model'], 'torch.float32')
    """
    fields = dict(data_fingerprint or {})
    for one in (collator, teacher):
        fields |= getattr(one, "fingerprint", {})
    model, tokenizer = getattr(teacher, "model", None), getattr(teacher, "tokenizer", None)
    if isinstance(model, nn.Module):
        fields["model"] = weights_digest(model)
        fields["dtype"] = str(next((part.dtype for part in model.parameters()), torch.float32))
    if tokenizer is not None:
        fields["vocabulary"] = vocabulary_digest(tokenizer)
    return fields
