"""Generating text and filling masks with torch; no other module of these packages generates with it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_adapters.config import DecodingConfig, Task, check_task
from distill_adapters.errors import ConfigError
from distill_adapters.quiet import quiet

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_COLUMNS = ("source", "prompt", "text")


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The outputs of a model, in the order of its inputs.

    Args:
        texts: Decoded texts without special tokens. For a masked model, the input with every mask filled.
        ids: Generated tokens without the end token. For a masked model, one token for each mask.
        scores: Mean log-probability of the generated tokens in nats, the end token included; 0 where nothing
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
    """Generate an output for each text, or fill its masks.

    Texts of similar length are batched together, and the outputs come in the order of the texts. Decoding is
    greedy unless ``decoding`` sets beams, and ends at the model's last position. The training mode of the
    model is restored afterwards.

    Args:
        model: A model of the task, with or without an adapter.
        tokenizer: Its tokenizer, which is not changed.
        rows: Texts, or a dataset with ``input_ids`` or a column of texts (source, prompt or text).
        task: The task of the model.
        decoding: How to decode; None means ``DecodingConfig()``.

    Raises:
        ConfigError: The task is unknown, the dataset has no column to read, a text has no tokens or more
            than the model has positions, or the task is masked and the tokenizer has no mask token.

    Example:
        >>> from transformers import AutoModelForSeq2SeqLM
        >>> from distill_adapters import DecodingConfig, load_tokenizer, predict
        >>> model = AutoModelForSeq2SeqLM.from_pretrained("translator")
        >>> decoding = DecodingConfig(max_new_tokens=3, beams=2)
        >>> found = predict(
        ...     model, load_tokenizer("translator"), ["w1 w2", "w3"], task="seq2seq", decoding=decoding
        ... )
        >>> len(found.texts), max(map(len, found.ids)) <= 3
        (2, True)
    """
    check_task(task)
    inputs = _inputs(tokenizer, rows, task)
    _check_lengths(model, inputs)
    if task == "masked" and tokenizer.mask_token_id is None:
        raise _no_mask()
    found = _predicted(model, tokenizer, inputs, task, decoding or DecodingConfig())
    return Predictions(
        texts=[text for text, _, _ in found],
        ids=[ids for _, ids, _ in found],
        scores=[score for _, _, score in found],
    )


def _predicted(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    inputs: list[list[int]],
    task: Task,
    decoding: DecodingConfig,
) -> list[tuple[str, list[int], float]]:
    """Text, ids and score of each input, computed in batches of similar length."""
    import torch

    order = sorted(range(len(inputs)), key=lambda place: -len(inputs[place]))
    found: list[tuple[str, list[int], float]] = [("", [], 0.0)] * len(inputs)
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
    return found


def mask_log_probs(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    hidden: Sequence[str],
    whole: Sequence[str],
    *,
    batch_size: int = 32,
) -> list[list[float]]:
    """Compute the log-probabilities of the tokens that masks hide.

    Args:
        model: A masked model. Its training mode is restored afterwards.
        tokenizer: The tokenizer of the model.
        hidden: Texts with mask tokens.
        whole: The same texts without masks. Each has as many tokens, and differs only where a mask stands.
        batch_size: Number of texts in one forward pass.

    Returns:
        For each text, the natural log-probability of the hidden token under each of its masks.

    Raises:
        ConfigError: The tokenizer has no mask token, a text is longer than the model's positions, or two
            texts differ elsewhere too.
        ValueError: ``hidden`` and ``whole`` have different lengths.

    Example:
        >>> from transformers import AutoModelForMaskedLM
        >>> from distill_adapters import load_tokenizer, mask_log_probs
        >>> tokenizer = load_tokenizer("filler")
        >>> model = AutoModelForMaskedLM.from_pretrained("filler")
        >>> hidden = [f"w1 {tokenizer.mask_token} w3"]
        >>> found = mask_log_probs(model, tokenizer, hidden, ["w1 w2 w3"])
        >>> len(found[0]), found[0][0] < 0
        (1, True)
    """
    if tokenizer.mask_token_id is None:
        raise _no_mask()
    inputs, right = (_inputs(tokenizer, texts, "masked") for texts in (hidden, whole))
    _check_pairs(tokenizer, hidden, inputs, right)
    _check_lengths(model, inputs)
    return _hidden_log_probs(model, tokenizer, inputs, right, batch_size)


def _check_pairs(
    tokenizer: "PreTrainedTokenizerBase",
    hidden: Sequence[str],
    inputs: list[list[int]],
    right: list[list[int]],
) -> None:
    """Refuse two texts that differ elsewhere than under masks."""
    for place, (row, other) in enumerate(zip(inputs, right, strict=True)):
        differing = {one for one, another in zip(row, other, strict=False) if one != another}
        if len(row) != len(other) or differing - {tokenizer.mask_token_id}:
            raise ConfigError(
                f"text {place} has {len(row)} tokens with its masks and {len(other)} without them. They must "
                "differ only where a mask stands; put one mask for each token.",
                field=f"hidden.{place}",
                found=hidden[place],
            )


def _hidden_log_probs(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    inputs: list[list[int]],
    right: list[list[int]],
    batch_size: int,
) -> list[list[float]]:
    """Log-probability of the reference token under each mask of each input."""
    import torch

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
    """Token ids of every row; the end token at the end of a causal prompt is left out."""
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
            raise ConfigError(f"row {place} has no tokens; leave empty texts out.", field=f"rows.{place}")
    return ids


def _check_lengths(model: "PreTrainedModel", inputs: list[list[int]]) -> None:
    """Refuse rows that have more tokens than the model has positions."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for place, row in enumerate(inputs):
        if limit is not None and len(row) > limit:
            raise ConfigError(
                f"row {place} has {len(row)} tokens, but the model reads at most {limit}; shorten it.",
                field=f"rows.{place}",
                found=len(row),
                suggestion=limit,
            )


def _column(rows: Any, names: list[str]) -> list[str]:
    name = next((name for name in _COLUMNS if name in names), None)
    if name is None:
        raise ConfigError(
            f"the dataset needs a column input_ids, {', '.join(_COLUMNS)}; it has {', '.join(names)}.",
            field="rows",
            found=tuple(names),
            allowed=("input_ids", *_COLUMNS),
        )
    return [str(text) for text in rows[name]]


@contextmanager
def evaluating(model: "PreTrainedModel") -> Iterator[None]:
    """Evaluation mode inside the block; the mode before it is restored."""
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


def _no_mask() -> ConfigError:
    return ConfigError(
        "a masked model fills mask tokens, but this tokenizer has no mask token.", field="tokenizer"
    )


def _pad_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


class _Recorder:
    """A logits processor that records the log-probability of the most likely token of each step."""

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
    """Every option set explicitly; lengths and sampling in the model's own file are ignored."""
    from transformers import GenerationConfig

    own, config = model.generation_config, model.config

    def known(name: str) -> Any:
        value = getattr(own, name, None)
        return value if value is not None else getattr(config, name, None)

    end, positions = known("eos_token_id"), getattr(config, "max_position_embeddings", None)
    # Every token needs a position, except the last one, which is never read.
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
    """The tokens before the end token, and their number with it."""
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
