"""What a model thinks of the right tokens of rows, each read with the right ones before it."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_adapters.config import IGNORE_INDEX, Task, check_task
from distill_adapters.prediction import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedModel

_READ = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "decoder_input_ids")


@dataclass(frozen=True)
class ForcedLogProbs:
    """Distributions over the next token, of positions that have a label.

    Attributes:
        log_probs: ``(positions, vocab)``, nats, float32, on the CPU.
        labels: The right tokens, ``(positions,)``.
        places: Which label of its row each is, from 0, ``(positions,)``.
    """

    log_probs: "Tensor"
    labels: "Tensor"
    places: "Tensor"


def forced_log_probs(
    model: "PreTrainedModel",
    rows: "Dataset",
    collate: "Callable[[Sequence[Mapping[str, object]]], Mapping[str, Tensor]]",
    *,
    task: Task,
    batch_size: int = 8,
    max_positions: int = 4096,
    max_bytes: int = 1 << 28,
) -> ForcedLogProbs:
    """Let a model read rows with their right tokens, and note what it expected at each.

    Two models that read the same rows in the same tokens are so compared position by position. Rows longer
    than the positions of the model are left out.

    Args:
        model: Any model of the task; its mode is put back afterwards.
        rows: Tokenized, read in order until there are positions enough.
        collate: Makes a batch of rows: ``input_ids``, ``attention_mask`` and ``labels``, ``(batch, seq)``,
            -100 where there is nothing to learn. ``decoder_input_ids`` of a seq2seq model are made of the
            labels where the batch has none.
        task: What the model is for. Causal labels stand at their own positions.
        batch_size: Rows of one forward pass, fewer where their logits are larger than ``max_bytes``.
        max_positions: No more positions are kept, nor more than fit into ``max_bytes``.
        max_bytes: Of float32 logits.

    Raises:
        ValueError: An unknown task, or no row has a label.
    """
    import torch

    from distill_adapters.inspection import decoder_inputs

    check_task(task)
    limit = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    lengths = [max(map(len, (row["input_ids"], row.get("labels", ())))) for row in rows]
    fitting = [at for at, length in enumerate(lengths) if length <= limit]
    width = 4 * int(getattr(model.config, "vocab_size", 1))
    room = max(1, min(max_positions, max_bytes // width))
    size = max(1, min(batch_size, max_bytes // (width * max(lengths, default=1))))
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    count = 0
    with torch.inference_mode(), evaluating(model):
        for start in range(0, len(fitting), size):
            batch = collate([rows[at] for at in fitting[start : start + size]])
            inputs: dict[str, Any] = {name: batch[name].to(model.device) for name in _READ if name in batch}
            labels = batch["labels"]
            if task == "seq2seq" and "decoder_input_ids" not in inputs:
                inputs["decoder_input_ids"] = decoder_inputs(model, labels.to(model.device))
            logits = model(**inputs).logits
            if task == "causal":
                logits, labels = logits[:, :-1], labels[:, 1:]
            valid = labels != IGNORE_INDEX
            places = (valid.cumsum(1) - 1)[valid][: room - count]
            chosen = logits[valid.to(logits.device)][: room - count]
            kept.append((chosen.float().log_softmax(-1).cpu(), labels[valid][: room - count], places))
            count += len(places)
            if count == room:
                break
    if not count:
        raise ValueError(
            f"none of the {len(rows)} rows has a label and fits the model; give rows to learn from."
        )
    return ForcedLogProbs(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
