"""The format of cached distributions: which positions of a row, under which key, in which bytes."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill_adapters import IGNORE_INDEX, Task
from distill_kd.errors import CacheError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
_STEPS = 255  # codes are 8 bits
Columns = dict[str, Tensor]


@dataclass(frozen=True)
class RowFacts:
    """What a batch asks about: rows, or the texts of packed rows, one after the other.

    Attributes:
        row_ids: One a row.
        checks: CRC-32 of what the teacher reads in that row: its inputs and labels, without padding.
        valid: The positions whose logits meet a label, ``(batch, seq)``, bool, on the CPU.
        counts: How many these are in each row.
        lengths: Tokens of each row, the longer of inputs and labels.
    """

    row_ids: list[int]
    checks: list[int]
    valid: Tensor
    counts: list[int]
    lengths: list[int]


def row_facts(batch: Mapping[str, Tensor], task: Task) -> RowFacts:
    """Identify the rows of a batch, whatever its padding.

    Args:
        batch: ``input_ids``, ``labels`` and, where there is padding, ``attention_mask``: ``(batch, seq)``;
            ``row_id``: ``(batch,)``. Packed: ``row_id`` ``(batch, texts)``, -1 where there are fewer, and
            ``position_ids`` that start from 0 in each text.
        task: Says which positions meet a label.

    Raises:
        CacheError: The batch has no ``row_id``, or not one a row.
    """
    if "row_id" not in batch:
        raise CacheError(
            f"the batch has no row_id, only {', '.join(batch)}; a cache is addressed by it. Keep the column "
            "(TrainingArguments(remove_unused_columns=False)) and use a collator that keeps it.",
            field="row_id",
            found=tuple(batch),
        )
    packed = "position_ids" in batch and batch["row_id"].ndim == 2
    if not packed and batch["row_id"].shape != batch["labels"].shape[:1]:
        raise CacheError(
            f"row_id is {tuple(batch['row_id'].shape)} for {len(batch['labels'])} rows; a cache needs one "
            "for each row, or, where rows are packed, position_ids and the row_id of each text.",
            field="row_id",
            found=tuple(batch["row_id"].shape),
        )
    labels, ids = (batch[name].cpu().long().numpy() for name in ("labels", "input_ids"))
    labelled = labels != IGNORE_INDEX
    kept = (
        batch["attention_mask"].cpu().numpy() != 0 if "attention_mask" in batch else np.ones(ids.shape, bool)
    )
    valid = labelled
    if task == "causal":  # the logits of a position meet the label of the next
        valid = np.zeros_like(labelled)
        valid[:, :-1] = labelled[:, 1:]
    if packed:
        return _packed_facts(batch, ids, labels, valid)
    read = labelled if task == "seq2seq" else kept
    skipped = int(task == "causal")  # the first token has no distribution: packing takes its label away
    checks = [
        zlib.crc32(label[shown][skipped:], zlib.crc32(row[real]))
        for row, real, label, shown in zip(ids, kept, labels, read, strict=True)
    ]
    return RowFacts(
        row_ids=batch["row_id"].tolist(),
        checks=checks,
        valid=torch.from_numpy(valid),
        counts=valid.sum(1).tolist(),
        lengths=np.maximum(kept.sum(1), labelled.sum(1)).tolist(),
    )


def _packed_facts(
    batch: Mapping[str, Tensor],
    ids: "NDArray[np.int64]",
    labels: "NDArray[np.int64]",
    valid: "NDArray[np.bool_]",
) -> RowFacts:
    """Facts of the texts in packed rows; they are those of the same texts alone."""
    positions, numbers = batch["position_ids"].cpu().numpy(), batch["row_id"].cpu().numpy()
    facts = RowFacts([], [], torch.from_numpy(valid), [], [])
    for at, row in enumerate(numbers):
        there = row[row >= 0].tolist()
        bounds = [*np.flatnonzero(positions[at] == 0).tolist(), positions.shape[1]]
        for number, first, last in zip(there, bounds[: len(there)], bounds[1:], strict=False):
            facts.row_ids.append(number)
            read = (ids[at, first:last], labels[at, first + 1 : last])
            facts.checks.append(zlib.crc32(read[1].tobytes(), zlib.crc32(read[0].tobytes())))
            facts.counts.append(int(valid[at, first:last].sum()))
            facts.lengths.append(last - first)
    return facts


@dataclass(frozen=True)
class Likeliest:
    """The most likely tokens of some positions.

    Attributes:
        ids: ``(positions, k)``, int64, the most likely first.
        log_probs: Theirs, ``(positions, k)``, float32.
        tail: Log-probability of all others together, ``(positions,)``.
        information: Sum of p log p over all tokens, ``(positions,)``, nats.
        vocab_size: All tokens.
    """

    ids: Tensor
    log_probs: Tensor
    tail: Tensor
    information: Tensor
    vocab_size: int


def top_k_of(scores: Tensor, k: int) -> Likeliest:
    """The ``k`` most likely tokens of each position, in one softmax and one search.

    Args:
        scores: ``(positions, vocab)``, float32; need not be normalised.
        k: Below the vocabulary's size.
    """
    probs = scores.softmax(1)
    top, ids = scores.topk(k, sorted=True)
    total = top[:, 0] - probs.gather(1, ids[:, :1])[:, 0].log()  # log of the sum of exp(scores)
    information = (probs * scores.clamp_min(-1e30)).sum(1) - total  # 0 * -inf is 0 here
    others = probs.scatter_(1, ids, 0).sum(1)
    return Likeliest(ids, top - total[:, None], others.log(), information, scores.shape[1])


def encode_top_k(ids: Tensor, log_probs: Tensor, tail: Tensor, *, vocab_size: int) -> Columns:
    """Eight bits for a probability, two or three bytes for its id.

    A code is the root of the distance to the most likely token, in 255ths of the root of the k-th's: fine
    where the probability is. Only distances are kept; what the k tokens share is 1 less the tail.

    Args:
        ids: ``(positions, k)``, int64.
        log_probs: Theirs, ``(positions, k)``, the largest first.
        tail: Log-probability of all others together, ``(positions,)``.
        vocab_size: Number of tokens that the teacher scores.

    Returns:
        ``ids`` uint16 (and ``high`` uint8 above 65,536 tokens) and ``codes`` uint8, all ``(positions, k)``;
        ``range`` and ``tail``, float16, ``(positions,)``.
    """
    distance = (log_probs[:, :1] - log_probs).clamp_max(60)  # e^-60: nothing, and never infinite
    span = distance[:, -1].half()
    scaled = distance / span.float().clamp_min(1e-6)[:, None]
    columns = {
        "ids": (ids & 0xFFFF).to(torch.uint16),
        "codes": (scaled.clamp(0, 1).sqrt() * _STEPS).round().to(torch.uint8),
        "range": span,
        "tail": tail.clamp_min(-60_000).half(),
    }
    if vocab_size > 1 << 16:
        columns["high"] = (ids >> 16).to(torch.uint8)
    return columns


def decode_top_k(columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`encode_top_k` wrote: ids int64, log-probabilities float32, tail float32; they sum to 1."""
    ids = columns["ids"].view(torch.int16).long() & 0xFFFF
    if "high" in columns:
        ids |= columns["high"].long() << 16
    distance = columns["range"].float()[:, None] * (columns["codes"].float() / _STEPS).square()
    tail = columns["tail"].float().clamp_max(-1e-6)
    kept = (-tail.expm1()).log()  # log(1 - tail's probability)
    return ids, (-distance).log_softmax(1) + kept[:, None], tail


def kl_error(truth: Likeliest, columns: Mapping[str, Tensor]) -> Tensor:
    """KL(teacher || cached) of each position, nats, where the tail is spread evenly over the tokens left out.

    Args:
        truth: The distributions of the teacher.
        columns: What :func:`encode_top_k` made of it.

    Returns:
        ``(positions,)``, float64.
    """
    _, cached, tail = decode_top_k(columns)
    spread = tail.double() - math.log(truth.vocab_size - truth.ids.shape[1])
    kept = (truth.log_probs.exp() * cached).sum(1, dtype=torch.float64)
    return truth.information.double() - kept - truth.tail.double().exp() * spread
