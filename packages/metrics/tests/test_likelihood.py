"""Perplexity and pseudo-perplexity of real, tiny models: every token exactly once."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_metrics import (
    EmptyTextError,
    SettingError,
    ShapeError,
    TextTypeError,
    accuracy,
    ece,
    kl,
    perplexity,
    pseudo_perplexity,
    top1_agreement,
)

pytestmark = pytest.mark.extra("perplexity")  # noqa: S610 - a marker, not a query

Save = Callable[[str, str], Path]


def load(folder: Path, head: str) -> tuple[Any, Any]:
    """Model and tokenizer."""
    import transformers

    made: Any = getattr(transformers, head)
    tokenizers: Any = transformers.AutoTokenizer
    return made.from_pretrained(folder), tokenizers.from_pretrained(folder)


def some_texts(words: list[str], lengths: list[int]) -> list[str]:
    """Texts of these lengths."""
    rng = random.Random(3)
    return [" ".join(rng.choices(words, k=length)) for length in lengths]


def by_hand(model: Any, ids: list[int], context: list[int]) -> float:
    """Summed loss of the tokens from 1 on, each in a pass of its own with ``context[t]`` tokens before it."""
    import torch

    lost = 0.0
    with torch.inference_mode():
        for t in range(1, len(ids)):
            scores = model(torch.tensor([ids[t - context[t] : t]])).logits[0, -1].double()
            lost -= float(scores.log_softmax(-1)[ids[t]])
    return lost


def test_causal_perplexity_is_the_models_own_loss(save: Save, words: list[str]) -> None:
    """Of texts that fit: exp of transformers' loss of each, in batches; the model stays in its mode."""
    import torch

    model, tokenizer = load(save("gpt2", "AutoModelForCausalLM"), "AutoModelForCausalLM")
    model.train()
    texts = some_texts(words, [5, 12, 40, 2])
    found = perplexity(model, tokenizer, texts, batch_size=3)
    assert model.training
    model.eval()
    for text, value in zip(texts, found.per_example or (), strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            assert value == pytest.approx(math.exp(float(model(ids, labels=ids).loss)), rel=1e-4)
    assert (found.tokens, found.n, found.unit) == (4 + 11 + 39 + 1, 4, "ratio")
    assert found.value == pytest.approx(perplexity(model, tokenizer, texts, batch_size=1).value, rel=1e-5)
    for part in ("causal", "max_length:40", "stride:20", "transformers:"):
        assert part in found.signature


@pytest.mark.parametrize(("width", "step"), [(8, 4), (8, 7), (8, 1), (5, 3)])
def test_windows_score_each_token_once_from_the_context_promised(
    save: Save, words: list[str], width: int, step: int
) -> None:
    """Equal to one pass a token: after the first window from at least ``max_length - stride`` tokens."""
    model, tokenizer = load(save("gpt2", "AutoModelForCausalLM"), "AutoModelForCausalLM")
    text = some_texts(words, [23])
    ids = tokenizer(text)["input_ids"][0]
    context, end, start = [0], min(width, 23), 0
    while len(context) < 23:
        context += [t - start for t in range(len(context), end)]
        end = min(23, end + step)
        start = max(0, end - width)
    assert min(context[width:]) >= width - step
    found = perplexity(model, tokenizer, text, max_length=width, stride=step)
    assert found.tokens == 22
    assert found.value == pytest.approx(math.exp(by_hand(model, ids, context) / 22), rel=1e-4)


@pytest.mark.parametrize("family", ["t5", "marian", "m2m_100"])
def test_seq2seq_perplexity_is_the_models_own_loss(family: str, save: Save, words: list[str]) -> None:
    """Of targets given their sources; padding of either changes nothing."""
    import torch

    model, tokenizer = load(save(family, "AutoModelForSeq2SeqLM"), "AutoModelForSeq2SeqLM")
    sources, targets = some_texts(words, [3, 9, 5]), some_texts(words, [4, 2, 7])
    found = perplexity(model, tokenizer, targets, sources=sources)
    assert found.tokens == 13
    for source, target, value in zip(sources, targets, found.per_example or (), strict=True):
        ids = tokenizer(source, return_tensors="pt")["input_ids"]
        labels = tokenizer(target, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            assert value == pytest.approx(math.exp(float(model(ids, labels=labels).loss)), rel=1e-4)
    with pytest.raises(SettingError, match="needs sources"):
        perplexity(model, tokenizer, targets)
    with pytest.raises(SettingError, match="for causal models"):
        perplexity(model, tokenizer, targets, sources=sources, stride=2)
    with pytest.raises(ShapeError, match="1 sources but 3 targets"):
        perplexity(model, tokenizer, targets, sources=sources[:1])
    with pytest.raises(EmptyTextError, match="source of example 0"):
        perplexity(model, tokenizer, ["a"], sources=[""])
    with pytest.raises(ShapeError, match="target 0 has 41 tokens, the model takes 40"):
        perplexity(model, tokenizer, some_texts(words, [41]), sources=["a"])


def test_pseudo_perplexity_hides_each_token_once(save: Save, words: list[str]) -> None:
    """Equal to hiding them by hand; special tokens are not scored; texts that do not fit are refused."""
    import torch

    model, tokenizer = load(save("bert", "AutoModelForMaskedLM"), "AutoModelForMaskedLM")
    texts = some_texts(words, [4, 7])
    found = pseudo_perplexity(model, tokenizer, texts, batch_size=3)
    assert found.tokens == 11
    for text, value in zip(texts, found.per_example or (), strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        lost = 0.0
        for place in range(1, ids.shape[1] - 1):
            hidden = ids.clone()
            hidden[0, place] = tokenizer.mask_token_id
            with torch.inference_mode():
                lost -= float(model(hidden).logits[0, place].double().log_softmax(-1)[ids[0, place]])
        assert value == pytest.approx(math.exp(lost / (ids.shape[1] - 2)), rel=1e-4)
    with pytest.raises(ShapeError, match="text 0 has 42 tokens, the model takes 40"):
        pseudo_perplexity(model, tokenizer, some_texts(words, [40]))
    with pytest.raises(EmptyTextError, match="Example 1 has no token"):
        pseudo_perplexity(model, tokenizer, ["a", ""])
    with pytest.raises(SettingError, match="use pseudo_perplexity"):
        perplexity(model, tokenizer, texts)
    tokenizer.mask_token = None
    with pytest.raises(SettingError, match="no mask token"):
        pseudo_perplexity(model, tokenizer, texts)


def test_what_has_no_perplexity_is_refused(save: Save, words: list[str]) -> None:
    """One token, nothing, numbers, one string, windows that cannot be, a model that says NaN."""
    model, tokenizer = load(save("gpt2", "AutoModelForCausalLM"), "AutoModelForCausalLM")
    for texts in (["the cat", "the"], ["the cat", ""]):
        with pytest.raises(EmptyTextError, match="Example 1 has no token"):
            perplexity(model, tokenizer, texts)
    with pytest.raises(ShapeError, match="no texts"):
        perplexity(model, tokenizer, [])
    with pytest.raises(TextTypeError, match="texts 1 is a int"):
        perplexity(model, tokenizer, ["a", 5])  # type: ignore[list-item]  # the mistake under test
    with pytest.raises(TextTypeError, match="one string"):
        perplexity(model, tokenizer, "the cat")
    with pytest.raises(SettingError, match="takes no sources"):
        perplexity(model, tokenizer, ["the cat"], sources=["a"])
    for length in (1, 41):
        with pytest.raises(SettingError, match=f"max_length={length} was asked for; allowed: 2 to 40"):
            perplexity(model, tokenizer, ["the cat"], max_length=length)
    for stride in (0, 8):
        with pytest.raises(SettingError, match=f"stride={stride} was asked for; allowed: 1 to 7"):
            perplexity(model, tokenizer, ["the cat"], max_length=8, stride=stride)
    model.transformer.wte.weight.data.fill_(math.nan)
    with pytest.raises(ValueError, match="example 0 the probability NaN"):
        perplexity(model, tokenizer, ["the cat"])


def test_agreement_and_accuracy_take_tensors_of_any_dtype(save: Save, words: list[str]) -> None:
    """Of a masked model and its bfloat16 copy."""
    import torch

    model, tokenizer = load(save("bert", "AutoModelForMaskedLM"), "AutoModelForMaskedLM")
    batch = tokenizer(some_texts(words, [5, 9]), return_tensors="pt", padding=True)
    with torch.inference_mode():
        logits = model.eval()(**batch).logits
    mask = batch["attention_mask"] == 1
    assert kl(logits.bfloat16(), logits, mask=mask).value < 0.01
    assert top1_agreement(logits.bfloat16(), logits, mask=mask).n == int(mask.sum())
    labels = batch["input_ids"].masked_fill(~mask, -100)
    assert accuracy(logits.argmax(-1), labels).n == int(mask.sum())
    assert 0.0 <= ece(logits, labels).value <= 100.0
