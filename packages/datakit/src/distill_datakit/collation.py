"""Rows to padded batches of tensors."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

from distill_datakit.columns import IGNORED, Task, check_task
from distill_datakit.errors import DataError, OptionError, TokenizerError
from distill_datakit.hashing import digest
from distill_datakit.masking import Corrupter, Masker, Masking, check_probability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

DecoderInputs: TypeAlias = "Callable[[Tensor], Tensor] | int"
_MASKINGS: Mapping[Task, tuple[Masking | None, ...]] = {
    "causal": (None,),
    "seq2seq": (None, "span_corruption"),
    "masked": ("token", "word", "span"),
}


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
    masking: Masking | None = None,
    masking_probability: float = 0.15,
    span_length: float = 3.0,
    pad_to_multiple_of: int | None = None,
    packed_attention: Literal["mask", "position_ids"] = "mask",
    model: "nn.Module | None" = None,
    decoder_inputs: "DecoderInputs | None" = None,
) -> Collator:
    """Make the collator of a task, for any torch ``DataLoader`` or transformers ``Trainer``.

    It pads on the right: ``input_ids`` with the padding token, ``attention_mask`` with 0 and ``labels``
    with -100, so that an end-of-text token that doubles as padding is still learnt. Masked rows are
    masked again each epoch, as a function of seed, ``row_id`` and epoch alone. Rows of ``pack`` come with
    ``position_ids`` and ``row_id`` ``(batch, segments)``, filled up with -1.

    Args:
        tokenizer: The tokenizer of the model. Its end-of-text token pads if it has no padding token.
        task: The task that the rows were tokenized for.
        seed: The seed of the masks.
        masking: What is hidden. For masked models ``"token"`` (the default), ``"word"`` or ``"span"``; for
            rows of ``tokenize(..., span_corruption=True)`` ``"span_corruption"``.
        masking_probability: The share of positions to predict, above 0 and at most 1.
        span_length: The mean length of corrupted spans in tokens, at least 1.
        pad_to_multiple_of: Lengths are rounded up to a multiple of this, which suits tensor cores.
        packed_attention: ``"mask"`` gives packed rows an ``attention_mask`` ``(batch, 1, seq, seq)`` of 0
            and the lowest float32: block-diagonal and causal, for eager and SDPA attention.
            ``"position_ids"`` leaves it out, as FlashAttention requires and models with sliding windows
            shorter than a text need; both keep texts apart only with ``use_cache=False``, and only in
            models that hand positions on to their mask: ``packing_error`` tells.
        model: A seq2seq model whose ``decoder_input_ids`` are added to each batch, for losses outside the
            model. They are made by its own method; for a model without one (M2M100, NLLB), labels are
            shifted by one behind its ``config.decoder_start_token_id``.
        decoder_inputs: Instead of ``model``: a function from labels to ``decoder_input_ids``, both
            ``(batch, seq)``, or the token behind which labels are shifted.

    Returns:
        A picklable callable with ``set_epoch``.

    Raises:
        OptionError: A value is unknown or out of range, or ``model`` is not for ``decoder_input_ids``.
        TokenizerError: No padding and no end-of-text token; masking that the tokenizer cannot do.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from distill_datakit import collator, load_data, tokenize
        >>> tokenizer = AutoTokenizer.from_pretrained("writer")
        >>> rows = tokenize(load_data([{"text": "w1 w2 w3"}, {"text": "w1"}]), tokenizer, "causal").data
        >>> collator(tokenizer, "causal")(list(rows))["labels"].tolist()
        [[6, 7, 8, 1], [6, 1, -100, -100]]
    """
    _check_settings(task, masking, masking_probability, span_length, pad_to_multiple_of, packed_attention)
    pad = _padding(tokenizer)
    noise = _noise(tokenizer, task, masking, seed, masking_probability, span_length)
    shift, block_mask = _shift(task, model, decoder_inputs), packed_attention == "mask"
    return _PaddingCollator(pad, pad_to_multiple_of or 1, noise, shift, block_mask=block_mask)


def _noise(
    tokenizer: "PreTrainedTokenizerBase", task: Task, masking: Masking | None, seed: int,
    probability: float, span_length: float,
) -> Masker | Corrupter | None:  # fmt: skip
    if task == "masked":
        return Masker(tokenizer, masking or "token", seed=seed, probability=probability)
    if masking:
        return Corrupter(tokenizer, seed=seed, probability=probability, span_length=span_length)
    return None


def _padding(tokenizer: "PreTrainedTokenizerBase") -> int:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if pad is None:
        raise TokenizerError(
            "the tokenizer has neither a padding nor an end-of-text token. Set tokenizer.pad_token.",
            field="tokenizer.pad_token",
        )
    return int(pad)


def _shift(
    task: Task, model: "nn.Module | None", decoder_inputs: "DecoderInputs | None"
) -> "DecoderInputs | None":
    if model is not None and decoder_inputs is not None:
        raise OptionError("model and decoder_inputs exclude each other: give one.", field="decoder_inputs")
    return _shift_of(model) if model is not None and task == "seq2seq" else decoder_inputs


def _check_settings(
    task: Task, masking: str | None, probability: float, span_length: float, multiple: int | None, packed: str
) -> None:
    check_task(task)
    if masking not in (None, *_MASKINGS[task]):
        raise OptionError.of("masking", masking, _MASKINGS[task], f" for task {task!r}")
    check_probability(probability)
    if span_length < 1:
        raise OptionError(
            f"span_length={span_length}: at least 1 token is needed.",
            field="span_length", found=span_length, suggestion=1.0)  # fmt: skip
    if multiple is not None and multiple < 1:
        raise OptionError(
            f"pad_to_multiple_of={multiple}: at least 1, or None.",
            field="pad_to_multiple_of", found=multiple, suggestion=None)  # fmt: skip
    if packed not in ("mask", "position_ids"):
        raise OptionError.of("packed_attention", packed, ("mask", "position_ids"))


class _PaddingCollator:
    def __init__(
        self,
        pad: int,
        multiple: int,
        noise: Masker | Corrupter | None,
        shift: "DecoderInputs | None",
        *,
        block_mask: bool,
    ) -> None:
        self.pad, self.multiple, self.noise, self.shift = pad, multiple, noise, shift
        self.block_mask = block_mask
        self.epoch = 0
        self.fingerprint: Mapping[str, str] = {"masking": digest(noise.scheme if noise else "none")}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, rows: Sequence[Mapping[str, object]]) -> "dict[str, Tensor]":
        import torch

        if not rows:
            raise DataError("a batch of no rows was given; at least one is needed.")
        names = [name for name in ("input_ids", "attention_mask", "labels") if name in rows[0]]
        columns = {name: _integers(rows, name) for name in names}
        packed = "position_ids" in rows[0]
        if self.noise is not None:
            self._hide(rows, columns)
        fill = {"input_ids": self.pad, "attention_mask": 0, "labels": IGNORED}
        batch = {name: torch.from_numpy(self._padded(values, fill[name])) for name, values in columns.items()}
        if packed:
            batch |= self._separated(rows, batch["input_ids"].shape[1])
        elif "row_id" in rows[0]:
            batch["row_id"] = torch.tensor([_row_id(row) for row in rows], dtype=torch.int64)
        if self.shift is not None and "labels" in batch:
            batch["decoder_input_ids"] = (
                _shifted(batch["labels"], self.shift, self.pad)
                if isinstance(self.shift, int)
                else self.shift(batch["labels"])
            )
        return batch

    def _hide(
        self, rows: Sequence[Mapping[str, object]], columns: "dict[str, list[NDArray[np.int64]]]"
    ) -> None:
        """Replace ids and make labels, as seed, row and epoch say."""
        import numpy as np

        assert self.noise is not None  # noqa: S101 - called only then
        if "row_id" not in rows[0]:
            raise DataError(
                "rows without 'row_id' cannot be masked reproducibly. Make them with tokenize().",
                field="row_id", found=tuple(rows[0]))  # fmt: skip
        words = _integers(rows, "word_ids") if "word_ids" in rows[0] else [None] * len(rows)
        pairs = [
            self.noise(ids, word, row_id=_row_id(row), epoch=self.epoch)
            for ids, word, row in zip(columns["input_ids"], words, rows, strict=True)
        ]
        columns["input_ids"], columns["labels"] = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        columns["attention_mask"] = [np.ones(len(ids), dtype=np.int64) for ids in columns["input_ids"]]

    def _separated(self, rows: Sequence[Mapping[str, object]], width: int) -> "dict[str, Tensor]":
        """What keeps the texts of packed rows apart; padding is one more text, to itself."""
        import numpy as np
        import torch

        positions = np.stack(
            [np.concatenate([row, np.arange(width - len(row))]) for row in _integers(rows, "position_ids")]
        )
        identities = _integers(rows, "row_id")
        most = max(map(len, identities))
        found = [np.concatenate([row, np.full(most - len(row), -1)]) for row in identities]
        apart = separated(torch.from_numpy(positions), block_mask=self.block_mask)
        return {**apart, "row_id": torch.from_numpy(np.stack(found))}

    def _padded(self, values: "list[NDArray[np.int64]]", fill: int) -> "NDArray[np.int64]":
        import numpy as np

        longest = max(1, *(len(value) for value in values))
        width = -(-longest // self.multiple) * self.multiple
        out = np.full((len(values), width), fill, dtype=np.int64)
        for index, value in enumerate(values):
            out[index, : len(value)] = value
        return out


def separated(positions: "Tensor", *, block_mask: bool) -> "dict[str, Tensor]":
    """``position_ids`` ``(batch, seq)``, and ``attention_mask`` ``(batch, 1, seq, seq)`` if asked for."""
    import torch

    if not block_mask:
        return {"position_ids": positions}
    texts = (positions == 0).cumsum(1)
    seen = (texts[:, :, None] == texts[:, None, :]).tril()[:, None]
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return {"position_ids": positions, "attention_mask": mask}


def _integers(rows: Sequence[Mapping[str, object]], name: str) -> "list[NDArray[np.int64]]":
    import numpy as np

    return [np.asarray(row[name], dtype=np.int64) for row in rows]


def _row_id(row: Mapping[str, object]) -> int:
    return int(cast("int", row["row_id"]))


def _shift_of(model: "nn.Module") -> "DecoderInputs":
    """The model's own way from labels to decoder inputs, else the token that its decoder starts with."""
    own = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        return cast("Callable[[Tensor], Tensor]", own)
    start = getattr(getattr(model, "config", None), "decoder_start_token_id", None)
    if start is None:
        name = type(model).__name__
        raise OptionError(
            f"model: {name} neither has prepare_decoder_input_ids_from_labels nor names the token that its "
            "decoder starts with (config.decoder_start_token_id). Give a seq2seq model, or decoder_inputs.",
            field="model", found=name)  # fmt: skip
    return int(start)


def _shifted(labels: "Tensor", start: int, pad: int) -> "Tensor":
    shifted = labels.roll(1, dims=1)
    shifted[:, 0] = start
    return shifted.masked_fill(shifted == IGNORED, pad)
