"""Rows to padded batches of tensors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from distill_datakit.chat import IGNORED
from distill_datakit.encoding import Task, check_task
from distill_datakit.errors import TokenizerError
from distill_datakit.fingerprints import digest
from distill_datakit.masking import mask_row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class Collator(Protocol):
    """What ``collator`` returns: rows in, a padded batch out.

    Attributes:
        fingerprint: ``masking`` -> SHA-256 of its settings; take it over into the data's fingerprint.
    """

    fingerprint: Mapping[str, str]

    def __call__(self, rows: Sequence[Mapping[str, object]]) -> "dict[str, Tensor]":
        """``input_ids``, ``attention_mask``, ``labels``: ``(batch, seq)``; ``row_id``: ``(batch,)``."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch follows; masks change with it."""


def collator(
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    *,
    seed: int = 42,
    masking_probability: float = 0.15,
    pad_to_multiple_of: int | None = None,
    model: "nn.Module | None" = None,
) -> Collator:
    """Make the collator of a task, for any torch ``DataLoader`` or transformers ``Trainer``.

    It pads on the right: ``input_ids`` with the padding token, ``attention_mask`` with 0 and ``labels``
    with -100, so that an end-of-text token that doubles as padding is still learnt. Masked rows are
    masked anew each epoch, as a function of seed, ``row_id`` and epoch alone.

    Args:
        tokenizer: Of the model; its end-of-text token pads where it has no padding token.
        task: As given to ``tokenize``.
        seed: Of the masks.
        masking_probability: Share of positions to predict, above 0 and at most 1; for masked models.
        pad_to_multiple_of: Round lengths up to this, as tensor cores like.
        model: For seq2seq: adds its ``decoder_input_ids``, so that losses computed outside the model
            have them.

    Returns:
        A picklable callable with ``set_epoch``.

    Raises:
        ValueError: An unknown task, probability or multiple out of range.
        TokenizerError: No padding and no end-of-text token; a masked task without a mask token.
    """
    check_task(task)
    if not 0.0 < masking_probability <= 1.0:
        raise ValueError(f"masking_probability={masking_probability}: above 0 and at most 1 is allowed.")
    if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
        raise ValueError(f"pad_to_multiple_of={pad_to_multiple_of}: at least 1, or None.")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if pad is None:
        raise TokenizerError(
            "the tokenizer has neither a padding nor an end-of-text token. Set tokenizer.pad_token."
        )
    masker = _Masker(tokenizer, seed=seed, probability=masking_probability) if task == "masked" else None
    return _PaddingCollator(int(pad), pad_to_multiple_of or 1, masker, model if task == "seq2seq" else None)


class _Masker:
    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, seed: int, probability: float) -> None:
        import numpy as np

        if tokenizer.mask_token_id is None:
            raise TokenizerError(
                "task 'masked' needs a mask token and this tokenizer has none. Set tokenizer.mask_token."
            )
        self.mask_id = int(tokenizer.mask_token_id)
        self.special = np.array(sorted(tokenizer.all_special_ids), dtype=np.int64)
        ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
        self.replacements = np.array(ordinary or [self.mask_id], dtype=np.int64)
        self.seed, self.probability = seed, probability

    def __call__(
        self, ids: "NDArray[np.int64]", *, row_id: int, epoch: int
    ) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        import numpy as np

        return mask_row(
            ids, maskable=~np.isin(ids, self.special), replacements=self.replacements, mask_id=self.mask_id,
            probability=self.probability, seed=self.seed, row_id=row_id, epoch=epoch)  # fmt: skip


class _PaddingCollator:
    def __init__(self, pad: int, multiple: int, masker: _Masker | None, model: "nn.Module | None") -> None:
        self.pad, self.multiple, self.masker, self.model = pad, multiple, masker, model
        self.epoch = 0
        scheme = ["none"] if masker is None else ["dynamic 80/10/10", masker.seed, masker.probability]
        self.fingerprint: Mapping[str, str] = {"masking": digest(scheme)}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, rows: Sequence[Mapping[str, object]]) -> "dict[str, Tensor]":
        import numpy as np
        import torch

        if not rows:
            raise ValueError("a batch of no rows was given; at least one is needed.")
        columns: dict[str, list[NDArray[np.int64]]] = {
            name: [np.asarray(row[name], dtype=np.int64) for row in rows]
            for name in ("input_ids", "attention_mask", "labels")
            if name in rows[0]
        }
        identities = [int(row["row_id"]) for row in rows] if "row_id" in rows[0] else None  # type: ignore[call-overload]  # an integer column
        if self.masker is not None:
            if identities is None:
                raise ValueError(
                    "rows without 'row_id' cannot be masked reproducibly. Make them with tokenize()."
                )
            pairs = [self.masker(ids, row_id=number, epoch=self.epoch)
                     for ids, number in zip(columns["input_ids"], identities, strict=True)]  # fmt: skip
            columns["input_ids"], columns["labels"] = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        fill = {"input_ids": self.pad, "attention_mask": 0, "labels": IGNORED}
        batch = {name: torch.from_numpy(self._padded(values, fill[name])) for name, values in columns.items()}
        if identities is not None:
            batch["row_id"] = torch.tensor(identities, dtype=torch.int64)
        if self.model is not None and "labels" in batch:
            batch["decoder_input_ids"] = _decoder_inputs(self.model, batch["labels"])
        return batch

    def _padded(self, values: "list[NDArray[np.int64]]", fill: int) -> "NDArray[np.int64]":
        import numpy as np

        longest = max(1, *(len(value) for value in values))
        width = -(-longest // self.multiple) * self.multiple
        out = np.full((len(values), width), fill, dtype=np.int64)
        for index, value in enumerate(values):
            out[index, : len(value)] = value
        return out


def _decoder_inputs(model: "nn.Module", labels: "Tensor") -> "Tensor":
    prepare = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if prepare is None:
        raise TypeError(
            f"{type(model).__name__} has no prepare_decoder_input_ids_from_labels; give a seq2seq model."
        )
    made: Tensor = prepare(labels=labels)
    return made
