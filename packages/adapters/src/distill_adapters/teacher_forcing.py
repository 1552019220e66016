"""Log-probabilities under teacher forcing: every position reads the reference tokens before it."""

import itertools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_adapters.config import IGNORE_INDEX, Task, check_task
from distill_adapters.errors import LabelError
from distill_adapters.prediction import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedModel

_READ = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "decoder_input_ids")


@dataclass(frozen=True)
class ForcedLogProbs:
    """Distributions over the token at each position that has a label.

    Attributes:
        log_probs: Log-probabilities, ``(positions, vocab)``, in nats, float32, on the CPU.
        labels: The reference tokens, ``(positions,)``.
        places: The index of each label in its row, from 0, ``(positions,)``.
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
    """Compute what a model expects at each labelled position of rows, given the reference tokens before it.

    Two models that read the same rows with the same tokenizer can be compared position by position. Rows
    longer than the model's positions are left out.

    Args:
        model: A model of the task. Its training mode is restored afterwards.
        rows: Tokenized rows, read in order until there are enough positions.
        collate: Makes a batch of rows: ``input_ids``, ``attention_mask`` and ``labels``, ``(batch, seq)``,
            with -100 where there is nothing to learn. The ``decoder_input_ids`` of a seq2seq model are made
            from the labels if the batch has none.
        task: The task of the model. Causal labels stand at their own positions.
        batch_size: Number of rows in one forward pass; fewer if their logits are larger than ``max_bytes``.
        max_positions: Largest number of positions that are kept, if as many fit into ``max_bytes``.
        max_bytes: Largest size of the float32 logits, in bytes.

    Raises:
        ConfigError: The task is unknown.
        LabelError: No row that fits the model has a label.

    Example:
        >>> from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq
        >>> from datasets import Dataset
        >>> from distill_adapters import forced_log_probs, load_tokenizer
        >>> tokenizer = load_tokenizer("writer")
        >>> model = AutoModelForCausalLM.from_pretrained("writer")
        >>> rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}])
        >>> found = forced_log_probs(model, rows, DataCollatorForSeq2Seq(tokenizer), task="causal")
        >>> found.labels.tolist(), found.log_probs.shape[1] == len(tokenizer)
        ([6, 7], True)
    """
    import torch

    check_task(task)
    limit = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    lengths = [max(map(len, (row["input_ids"], row.get("labels", ())))) for row in rows]
    fitting = [at for at, length in enumerate(lengths) if length <= limit]
    width = 4 * int(getattr(model.config, "vocab_size", 1))
    room = max(1, min(max_positions, max_bytes // width))
    size = max(1, min(batch_size, max_bytes // (width * max(lengths, default=1))))
    kept = list(_positions(model, (rows[at] for at in fitting), collate, task, size, room))
    if not kept:
        raise LabelError(
            f"none of the {len(rows)} rows has a label and fits the model. Give rows with labels that do not "
            "exceed the model's positions.",
            field="rows",
        )
    return ForcedLogProbs(*(torch.cat(parts) for parts in zip(*kept, strict=True)))


def _positions(
    model: "PreTrainedModel",
    rows: "Iterator[Mapping[str, object]]",
    collate: "Callable[[Sequence[Mapping[str, object]]], Mapping[str, Tensor]]",
    task: Task,
    batch_size: int,
    most: int,
) -> "Iterator[tuple[Tensor, Tensor, Tensor]]":
    """Log-probabilities, labels and places of each batch that has any, ``most`` positions in all."""
    import torch

    with torch.inference_mode(), evaluating(model):
        while most and (chosen := list(itertools.islice(rows, batch_size))):
            logits, labels = _forced(model, collate(chosen), task)
            valid = labels != IGNORE_INDEX
            places = (valid.cumsum(1) - 1)[valid][:most]
            scores = logits[valid.to(logits.device)][:most]
            if len(places):
                yield scores.float().log_softmax(-1).cpu(), labels[valid][:most], places
            most -= len(places)


def _forced(model: "PreTrainedModel", batch: "Mapping[str, Tensor]", task: Task) -> "tuple[Tensor, Tensor]":
    """Logits of a batch, ``(batch, seq, vocab)``, and the label that each of them is to predict."""
    from distill_adapters.inspection import decoder_inputs

    inputs: dict[str, Any] = {name: batch[name].to(model.device) for name in _READ if name in batch}
    labels = batch["labels"]
    if task == "seq2seq" and "decoder_input_ids" not in inputs:
        inputs["decoder_input_ids"] = decoder_inputs(model, labels.to(model.device))
    logits: Tensor = model(**inputs).logits
    return (logits[:, :-1], labels[:, 1:]) if task == "causal" else (logits, labels)
