"""Perplexity of causal and seq2seq models, and pseudo-perplexity of masked ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_metrics.arrays import IGNORED
from distill_metrics.errors import EmptyTextError, MissingExtraError, SettingError, ShapeError, TextTypeError
from distill_metrics.log_probs import perplexity_of_sums
from distill_metrics.results import MetricResult, version_of

if TYPE_CHECKING:
    import torch


def perplexity(
    model: "torch.nn.Module",
    tokenizer: object,
    texts: Sequence[str],
    *,
    sources: Sequence[str] | None = None,
    max_length: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
) -> MetricResult:
    """Perplexity of texts under a causal model, or of targets given their sources under a seq2seq model.

    Every token is scored exactly once. Of a causal model that is every token but the first, which is the
    context of the others (where the tokenizer puts a BOS in front, that is the one). A text longer than
    ``max_length`` is read in windows that move by ``stride``: each token after the first window is predicted
    from at least ``max_length - stride`` tokens. Special tokens that the tokenizer adds behind are scored.

    Args:
        model: A causal or seq2seq language model of transformers; it is put back into its mode afterwards.
        tokenizer: The tokenizer of the model.
        texts: The texts, or the targets.
        sources: For a seq2seq model the source of each target.
        max_length: Longest window of a causal model in tokens; None takes what the model takes.
        stride: Of a causal model; None takes half of ``max_length``.
        batch_size: Windows of one forward pass.

    Returns:
        ``exp`` of the mean negative log-likelihood of all ``tokens``; that of each text in ``per_example``.

    Raises:
        ShapeError: No texts, another number of sources, or a source or target longer than the model takes.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A text has no token to score.
        SettingError: Sources without a seq2seq model or the reverse, a masked model, or impossible lengths.
        ValueError: The model gives a token NaN.
        MissingExtraError: The extra ``[perplexity]`` is not installed.

    Example:
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> from distill_metrics import perplexity
        >>> model = AutoModelForCausalLM.from_pretrained("writer")
        >>> tokenizer = AutoTokenizer.from_pretrained("writer")
        >>> result = perplexity(model, tokenizer, ["w1 w2 w3", "w4 w5"])
        >>> result.unit, result.n, result.value > 1
        ('ratio', 2, True)

    Source:
        Jelinek et al. 1977; the windows as in "Perplexity of fixed-length models" of transformers' docs.
    """
    reader: Any = tokenizer
    _check_texts(texts, "texts")
    windows, detail = _windows(model, reader, texts, sources, max_length=max_length, stride=stride)
    sums = _summed(model, windows, len(texts), pad=reader.pad_token_id or 0, batch_size=batch_size)
    return perplexity_of_sums(sums, f"perplexity|{detail}|{_versions(model)}")


def pseudo_perplexity(
    model: "torch.nn.Module", tokenizer: object, texts: Sequence[str], *, batch_size: int = 32
) -> MetricResult:
    """Pseudo-perplexity of texts under a masked model: each token is hidden once and predicted from the rest.

    Special tokens are not scored. A text of n tokens takes n passes.

    Args:
        model: A masked language model of transformers; it is put back into its mode afterwards.
        tokenizer: Its tokenizer, with a mask token.
        texts: The texts.
        batch_size: Copies of one forward pass.

    Returns:
        As :func:`perplexity`.

    Raises:
        ShapeError: No texts, or one that is longer than the model takes.
        TextTypeError: Something is not a ``str``.
        EmptyTextError: A text has no token to score.
        SettingError: The tokenizer has no mask token.
        ValueError: The model gives a token NaN.
        MissingExtraError: The extra ``[perplexity]`` is not installed.

    Example:
        >>> from transformers import AutoModelForMaskedLM, AutoTokenizer
        >>> from distill_metrics import pseudo_perplexity
        >>> model = AutoModelForMaskedLM.from_pretrained("filler")
        >>> tokenizer = AutoTokenizer.from_pretrained("filler")
        >>> result = pseudo_perplexity(model, tokenizer, ["w1 w2 w3", "w4 w5"])
        >>> result.tokens, result.value > 1
        (5, True)

    Source:
        Salazar et al. 2020, arXiv:1910.14659, section 2.3.
    """
    _check_texts(texts, "texts")
    reader: Any = tokenizer
    if reader.mask_token_id is None:
        raise SettingError(
            "The tokenizer has no mask token; pseudo-perplexity is for masked models.", field="tokenizer"
        )
    encoded = reader(list(texts), return_special_tokens_mask=True, verbose=False)
    windows = []
    for row, (ids, special) in enumerate(
        zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    ):
        _check_length(model, reader, ids, f"text {row}")
        for place in (place for place, one in enumerate(special) if not one):
            hidden, labels = list(ids), [IGNORED] * len(ids)
            hidden[place], labels[place] = reader.mask_token_id, ids[place]
            windows.append(_Window(row, hidden, labels))
    sums = _summed(model, windows, len(texts), pad=reader.pad_token_id or 0, batch_size=batch_size)
    return perplexity_of_sums(sums, f"pseudo_perplexity|masked|one token at a time|{_versions(model)}")


@dataclass(frozen=True)
class _Window:
    """Ids to read and labels to predict at the same positions, -100 where nothing is; the text's row."""

    row: int
    ids: Sequence[int]
    labels: Sequence[int]


def _windows(
    model: Any,
    reader: Any,
    texts: Sequence[str],
    sources: Sequence[str] | None,
    *,
    max_length: int | None,
    stride: int | None,
) -> tuple[Sequence[_Window], str]:
    """What is read of each text, and how that is said in the signature."""
    if (kind := _kind(model)) == "masked":
        raise SettingError(
            "A masked model has no perplexity; use pseudo_perplexity.",
            field="model",
            found=kind,
            allowed=("causal", "seq2seq"),
        )
    if (kind == "seq2seq") != (sources is not None):
        needed = "needs sources" if kind == "seq2seq" else "takes no sources"
        raise SettingError(
            f"The model is {kind}, which {needed}.",
            field="sources",
            found=None if sources is None else len(sources),
        )
    if sources is None:
        width, step = _window(model, reader, max_length, stride)
        detail = f"causal|max_length:{width or 'whole text'}|stride:{step or 'none'}|first token is context"
        return list(_causal_windows(reader, texts, width, step)), detail
    if (max_length, stride) != (None, None):
        raise SettingError(
            "max_length and stride are for causal models; seq2seq models read whole texts.",
            field="stride" if max_length is None else "max_length",
            found=stride if max_length is None else max_length,
        )
    return _seq2seq_windows(model, reader, sources, texts), "seq2seq|targets given sources"


def _kind(model: Any) -> str:
    if model.config.is_encoder_decoder:
        return "seq2seq"
    return "masked" if "MaskedLM" in type(model).__name__ else "causal"


def _check_texts(texts: Sequence[str], what: str) -> None:
    if isinstance(texts, str):
        raise TextTypeError(f"{what} is one string; a list of texts is needed.", field=what, found=texts)
    if not texts:
        raise ShapeError("There are no texts to score; at least one is needed.", field=what, found=0)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextTypeError(
                f"{what} {row} is a {type(text).__name__}; a str is needed.", field=what, found=text
            )


def _positions(model: Any, tokenizer: Any) -> int | None:
    """The longest input in tokens, or None where there is no limit."""
    # transformers gives tokenizers without a limit 1e30.
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 1 << 24 else []
    known = getattr(model.config, "max_position_embeddings", None)
    return min([*limits, *([known] if known else [])], default=None)


def _check_length(model: Any, tokenizer: Any, ids: Sequence[int], what: str) -> None:
    limit = _positions(model, tokenizer)
    if limit is not None and len(ids) > limit:
        raise ShapeError(
            f"{what} has {len(ids)} tokens, the model takes {limit}; split it.",
            field=what.split(maxsplit=1)[0],
            found=len(ids),
            allowed=(limit,),
        )


def _window(
    model: Any, tokenizer: Any, max_length: int | None, stride: int | None
) -> tuple[int | None, int | None]:
    limit = _positions(model, tokenizer)
    width = limit if max_length is None else max_length
    if width is None:
        if stride is not None:
            raise SettingError(
                "A stride was given, but the model has no longest input; give max_length too.",
                field="max_length",
            )
        return None, None
    if width < 2 or (limit is not None and width > limit):
        raise SettingError(
            f"max_length={width} was asked for; allowed: 2 to {limit or 'any number'}.",
            field="max_length",
            found=width,
            suggestion=limit or 1024,
        )
    step = max(1, width // 2) if stride is None else stride
    if not 1 <= step < width:
        raise SettingError(
            f"stride={step} was asked for; allowed: 1 to {width - 1}, below max_length.",
            field="stride",
            found=step,
            allowed=range(1, width),
            suggestion=max(1, width // 2),
        )
    return width, step


def _causal_windows(
    tokenizer: Any, texts: Sequence[str], width: int | None, step: int | None
) -> Iterator[_Window]:
    for row, ids in enumerate(tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]):
        end = min(len(ids), width or len(ids))
        scored = 1
        while scored < end:
            start = max(0, end - (width or end))
            # The position before a token predicts it.
            labels = [ids[t] if t >= scored else IGNORED for t in range(start + 1, end)]
            yield _Window(row, ids[start : end - 1], labels)
            scored, end = end, min(len(ids), end + (step or 0))


def _seq2seq_windows(
    model: Any, tokenizer: Any, sources: Sequence[str], targets: Sequence[str]
) -> list[_Window]:
    _check_texts(sources, "sources")
    if len(sources) != len(targets):
        raise ShapeError(
            f"{len(sources)} sources but {len(targets)} targets; one source a target is needed.",
            field="sources",
            found=len(sources),
            allowed=(len(targets),),
        )
    read = tokenizer(list(sources), truncation=False, verbose=False)["input_ids"]
    said = tokenizer(text_target=list(targets), truncation=False, verbose=False)["input_ids"]
    for row, pair in enumerate(zip(read, said, strict=True)):
        for ids, what in zip(pair, ("source", "target"), strict=True):
            if not ids:
                raise EmptyTextError(
                    f"The {what} of example {row} has no token. Remove the example.",
                    field=f"{what}s",
                    found=row,
                )
            _check_length(model, tokenizer, ids, f"{what} {row}")
    return [_Window(row, ids, labels) for row, (ids, labels) in enumerate(zip(read, said, strict=True))]


def _summed(
    model: Any, windows: Sequence[_Window], n: int, *, pad: int, batch_size: int
) -> list[tuple[float, int]]:
    """Summed negative log-likelihood, and number of tokens, of each of the ``n`` texts."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"{error}. Run: pip install 'distill-metrics[perplexity]'.") from error
    sums, counts = [0.0] * n, [0] * n
    order = sorted(windows, key=lambda window: len(window.ids), reverse=True)
    device = next(model.parameters()).device
    with _evaluating(model), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids = _padded([window.ids for window in batch], pad).to(device)
            mask = _padded([[1] * len(window.ids) for window in batch], 0).to(device)
            labels = _padded([window.labels for window in batch], IGNORED).to(device)
            inputs = {"input_ids": ids, "attention_mask": mask}
            if model.config.is_encoder_decoder:
                inputs["decoder_input_ids"] = _decoder_inputs(model, labels)
            logits = model(**inputs).logits
            for window, line, right in zip(batch, logits, labels, strict=True):
                where = right != IGNORED
                lost = torch.nn.functional.cross_entropy(line[where].float(), right[where], reduction="none")
                sums[window.row] += float(lost.double().sum())
                counts[window.row] += int(where.sum())
    return list(zip(sums, counts, strict=True))


def _decoder_inputs(model: Any, labels: "torch.Tensor") -> "torch.Tensor":
    """Labels shifted right by one; M2M100 and FSMT have no method for it."""
    import torch

    own = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        shifted: torch.Tensor = own(labels=labels)
        return shifted
    start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
    moved = torch.cat([start, labels[:, :-1]], dim=1)
    return moved.masked_fill(moved == IGNORED, model.config.pad_token_id)


def _padded(rows: Sequence[Sequence[int]], value: int) -> "torch.Tensor":
    import torch

    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _versions(model: Any) -> str:
    name = getattr(model.config, "name_or_path", "") or type(model).__name__
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return f"model:{name}|{dtype}|torch:{version_of('torch')}|transformers:{version_of('transformers')}"
