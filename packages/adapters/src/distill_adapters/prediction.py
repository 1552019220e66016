"""The one place that generates with torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_adapters.config import DecodingConfig, Task, check_task
from distill_adapters.quiet import quiet

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_COLUMNS = ("source", "prompt", "text")


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said, in the order it was asked.

    Args:
        texts: Decoded, without special tokens. Of a masked model: the whole text with every mask filled.
        ids: Generated tokens without the end token. Of a masked model: one for each mask.
        scores: Mean log-probability in nats of the generated tokens, the end token included; 0 where nothing
            was generated.
    """

    texts: list[str]
    ids: list[list[int]]
    scores: list[float]


def predict(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    rows: "Sequence[str] | Dataset",
    *,
    task: Task,
    decoding: DecodingConfig | None = None,
) -> Predictions:
    """Let a model answer texts, or fill their masks.

    Texts are taken in batches of like length and put back in order. Greedy unless ``decoding`` names
    beams. The mode of the model is put back afterwards.

    Generating ends where the positions of the model do.

    Args:
        model: Any model of the task, an adapted one too.
        tokenizer: Its tokenizer; it is not changed.
        rows: Raw texts, or a dataset with ``input_ids`` or a column of texts (source, prompt or text).
        task: What the model is for.
        decoding: How; None is ``DecodingConfig()``.

    Raises:
        ValueError: An unknown task, a dataset without a column to read, a text without tokens or
            longer than the positions of the model, or a masked task
            and a tokenizer without a mask token.
    """
    import torch

    check_task(task)
    decoding = decoding or DecodingConfig()
    inputs = _inputs(tokenizer, rows, task)
    _check_lengths(model, inputs)
    order = sorted(range(len(inputs)), key=lambda place: -len(inputs[place]))
    found: list[tuple[str, list[int], float]] = [("", [], 0.0)] * len(inputs)
    if task == "masked" and tokenizer.mask_token_id is None:
        raise ValueError("a masked model fills mask tokens, and this tokenizer has none.")
    with torch.inference_mode(), evaluating(model), quiet():
        for start in range(0, len(order), decoding.batch_size):
            places = order[start : start + decoding.batch_size]
            batch = [inputs[place] for place in places]
            if task == "masked":
                answers = _fill(model, tokenizer, batch)
            else:
                answers = _generate(model, tokenizer, batch, task, decoding)
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
    return Predictions(
        texts=[text for text, _, _ in found],
        ids=[ids for _, ids, _ in found],
        scores=[score for _, _, score in found],
    )


def mask_log_probs(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    hidden: Sequence[str],
    whole: Sequence[str],
    *,
    batch_size: int = 32,
) -> list[list[float]]:
    """What a masked model thinks of the tokens that stand under the masks.

    Args:
        model: A masked model; its mode is put back afterwards.
        tokenizer: Its tokenizer.
        hidden: Texts with mask tokens.
        whole: The same texts without: they have as many tokens, and differ under masks only.
        batch_size: Texts of one forward pass.

    Returns:
        For each text the natural log-probability of the right token under each of its masks.

    Raises:
        ValueError: The tokenizer has no mask token, other numbers of texts, a text longer than the positions
            of the model, or two texts that differ elsewhere too.
    """
    import torch

    if tokenizer.mask_token_id is None:
        raise ValueError("a masked model fills mask tokens, and this tokenizer has none.")
    inputs, right = (_inputs(tokenizer, texts, "masked") for texts in (hidden, whole))
    for place, (row, other) in enumerate(zip(inputs, right, strict=True)):
        differing = {one for one, another in zip(row, other, strict=False) if one != another}
        if len(row) != len(other) or differing - {tokenizer.mask_token_id}:
            raise ValueError(
                f"text {place} has {len(row)} tokens with its masks and {len(other)} without, and must "
                "differ under the masks only; put one mask for each token."
            )
    _check_lengths(model, inputs)
    order = sorted(range(len(inputs)), key=lambda place: -len(inputs[place]))
    found: list[list[float]] = [[] for _ in inputs]
    with torch.inference_mode(), evaluating(model):
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            ids, mask = _padded([inputs[at] for at in places], _pad_id(tokenizer), model.device, left=False)
            targets, _ = _padded([right[at] for at in places], _pad_id(tokenizer), model.device, left=False)
            masks = (ids == tokenizer.mask_token_id) & (mask == 1)
            logits = model(input_ids=ids, attention_mask=mask).logits[masks].float()
            values = logits.log_softmax(-1).gather(-1, targets[masks][:, None])[:, 0]
            for at, part in zip(places, values.split(masks.sum(1).tolist()), strict=True):
                found[at] = part.tolist()
    return found


def _inputs(
    tokenizer: "PreTrainedTokenizerBase", rows: "Sequence[str] | Dataset", task: Task
) -> list[list[int]]:
    """Token ids of every row; a causal prompt does not end with the end token."""
    names = list(getattr(rows, "column_names", None) or ())
    if "input_ids" in names:
        ids = [list(row) for row in rows["input_ids"]]  # type: ignore[call-overload]  # a Dataset's column
    else:
        texts = list(rows) if not names else _column(rows, names)
        ids = [list(row) for row in tokenizer(texts)["input_ids"]] if texts else []
    end = tokenizer.eos_token_id
    if task == "causal":
        ids = [row[:-1] if len(row) > 1 and row[-1] == end else row for row in ids]
    for place, row in enumerate(ids):
        if not row:
            raise ValueError(f"row {place} has no tokens; leave empty texts out.")
    return ids


def _check_lengths(model: "PreTrainedModel", inputs: list[list[int]]) -> None:
    """Refuse rows that are longer than the positions a model has."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for place, row in enumerate(inputs):
        if limit is not None and len(row) > limit:
            raise ValueError(f"row {place} has {len(row)} tokens, and the model reads {limit}; shorten it.")


def _column(rows: Any, names: list[str]) -> list[str]:
    name = next((name for name in _COLUMNS if name in names), None)
    if name is None:
        raise ValueError(f"a column input_ids, {', '.join(_COLUMNS)} was expected; found {', '.join(names)}.")
    return [str(text) for text in rows[name]]


@contextmanager
def evaluating(model: "PreTrainedModel") -> Iterator[None]:
    """No dropout meanwhile; the mode is put back."""
    training = model.training
    model.train(mode=False)
    try:
        yield
    finally:
        model.train(training)


def _padded(batch: list[list[int]], pad: int, device: Any, *, left: bool) -> "tuple[Tensor, Tensor]":
    """``input_ids`` and ``attention_mask``, ``(batch, longest)``."""
    import torch

    longest = max(map(len, batch))
    ids = torch.full((len(batch), longest), pad)
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for place, row in enumerate(batch):
        where = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[place, where] = torch.tensor(row)
        mask[place, where] = 1
    return ids.to(device), mask.to(device)


def _pad_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


class _Recorder:
    """A logits processor that notes the log-probability of the likeliest token of each step."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, _input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """``(batch, tokens), (batch, vocab) -> (batch, vocab)``, unchanged."""
        self.steps.append(scores.float().max(-1).values - scores.float().logsumexp(-1))
        return scores


def _generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    batch: list[list[int]],
    task: Task,
    decoding: DecodingConfig,
) -> list[tuple[str, list[int], float]]:
    import torch
    from transformers import LogitsProcessorList

    ids, mask = _padded(batch, _pad_id(tokenizer), model.device, left=task == "causal")
    config = _generation_config(model, tokenizer, decoding, before=ids.shape[1] if task == "causal" else 1)
    recorder = _Recorder()
    output: Any = model.generate(  # type: ignore[operator]  # transformers types the mixin's method as a Tensor
        input_ids=ids,
        attention_mask=mask,
        generation_config=config,
        logits_processor=LogitsProcessorList([recorder] if decoding.beams == 1 else []),
        return_dict_in_generate=True,
        output_scores=decoding.beams > 1,
    )
    skip = ids.shape[1] if task == "causal" else 1
    ends = _ends(config)
    made = [_until_end(row, ends) for row in output.sequences[:, skip:].tolist()]
    if decoding.beams > 1:
        scores = output.sequences_scores.tolist()
    else:
        steps = torch.stack(recorder.steps, dim=1).tolist()
        scores = [sum(row[:count]) / max(count, 1) for row, (_, count) in zip(steps, made, strict=True)]
    texts = tokenizer.batch_decode([row for row, _ in made], skip_special_tokens=True)
    return [(text, row, score) for text, (row, _), score in zip(texts, made, scores, strict=True)]


def _generation_config(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", decoding: DecodingConfig, *, before: int
) -> Any:
    """Everything explicit: what a model's own file says about lengths and sampling does not count."""
    from transformers import GenerationConfig

    own, config = model.generation_config, model.config

    def known(name: str) -> Any:
        value = getattr(own, name, None)
        return value if value is not None else getattr(config, name, None)

    end, positions = known("eos_token_id"), getattr(config, "max_position_embeddings", None)
    # A token is read at a position of its own, but for the last one.
    room = decoding.max_new_tokens if positions is None else positions - before + 1
    made = {
        "max_new_tokens": max(1, min(decoding.max_new_tokens, room)),
        "num_beams": decoding.beams,
        "do_sample": False,
        "use_cache": True,
        "pad_token_id": _pad_id(tokenizer),
        "eos_token_id": end if end is not None else tokenizer.eos_token_id,
        "bos_token_id": known("bos_token_id"),
    }
    for name in ("decoder_start_token_id", "bad_words_ids", "suppress_tokens", "forced_bos_token_id"):
        made[name] = known(name)
    kind: Any = GenerationConfig  # untyped in transformers
    return kind(**{name: value for name, value in made.items() if value is not None})


def _ends(config: Any) -> frozenset[int]:
    ends = config.eos_token_id
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def _until_end(row: list[int], ends: frozenset[int]) -> tuple[list[int], int]:
    """Tokens before the end token, and how many were generated with it."""
    for place, token in enumerate(row):
        if token in ends:
            return row[:place], place + 1
    return row, len(row)


def _fill(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", batch: list[list[int]]
) -> list[tuple[str, list[int], float]]:
    ids, mask = _padded(batch, _pad_id(tokenizer), model.device, left=False)
    places = (ids == tokenizer.mask_token_id) & (mask == 1)
    logits = model(input_ids=ids, attention_mask=mask).logits[places].float()
    best = logits.log_softmax(-1).max(-1)
    filled = ids.clone()
    filled[places] = best.indices
    answers = []
    start = 0
    for row, length, count in zip(filled.tolist(), map(len, batch), places.sum(1).tolist(), strict=True):
        scores = best.values[start : start + count].tolist()
        text = tokenizer.decode(row[:length], skip_special_tokens=True)
        answers.append((str(text), best.indices[start : start + count].tolist(), sum(scores) / max(count, 1)))
        start += count
    return answers
