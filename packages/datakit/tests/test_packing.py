"""Packing: little padding, and nothing of one text seen from another."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_datakit import DataError, LengthSampler, collator, load_data, pack, packing_error, tokenize
from distill_datakit.packing import best_fit

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

KEEP_POSITIONS = {"opt", "gptj", "gpt_neo", "falcon", "stablelm"}  # in some version of transformers at least
torch_extra = pytest.mark.extra("torch")  # noqa: S610  # no database
ROPE: dict[str, object] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128}  # fmt: skip
GPT: dict[str, object] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
ARCHITECTURES: dict[str, dict[str, object]] = {
    "gpt2": GPT, "gptj": {**GPT, "rotary_dim": 4}, "gpt_neox": ROPE,
    "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 128,
                "attention_types": [[["global", "local"], 1]]},
    "opt": {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 128},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}, "llama": ROPE,
    "mistral": ROPE, "mixtral": {**ROPE, "num_local_experts": 2}, "qwen2": ROPE,
    "qwen3": {**ROPE, "head_dim": 8}, "gemma": {**ROPE, "head_dim": 8}, "gemma2": {**ROPE, "head_dim": 8},
    "gemma3_text": {**ROPE, "head_dim": 8}, "phi": ROPE, "phi3": {**ROPE, "pad_token_id": 0}, "olmo2": ROPE,
    "stablelm": ROPE, "starcoder2": ROPE, "granite": ROPE, "cohere": ROPE,
    "smollm3": {**ROPE, "pad_token_id": 0},
}  # fmt: skip


def tiny(name: str, vocabulary: int = 64, **settings_: object) -> "PreTrainedModel":
    """A model of an architecture with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    common = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(name, **common, **ARCHITECTURES.get(name, {}), **settings_)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]  # untyped there
    made.train(mode=False)
    return made


@torch_extra
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_packed_logits_are_those_of_each_text_alone(name: str) -> None:
    """Within 1e-5, by the block mask; by positions alone where models hand them on to the mask they make."""
    model = tiny(name)
    assert packing_error(model) < 1e-5
    if name not in KEEP_POSITIONS:
        assert packing_error(model, packed_attention="position_ids") < 1e-5


@torch_extra
def test_models_that_mix_packed_texts_are_found_out() -> None:
    """Recurrent ones refuse the mask; sliding windows below a text's length need positions alone."""
    recurrent = tiny("mamba", hidden_size=32, num_hidden_layers=1, state_size=4)
    assert packing_error(recurrent) > 1e-2
    assert packing_error(recurrent, packed_attention="position_ids") > 1e-2
    windowed = tiny("mistral", sliding_window=8)
    assert packing_error(windowed) > 1e-3
    assert packing_error(windowed, packed_attention="position_ids") < 1e-5


@pytest.fixture
def rows(sentences: list[str], bpe: "PreTrainedTokenizerFast") -> "Dataset":
    """Sixteen causal rows of prompt and completion."""
    pairs = [{"prompt": text[:6], "completion": text[6 : 12 + n]} for n in (0, 9) for text in sentences]
    return tokenize(load_data(pairs), bpe, "causal").data


@torch_extra
def test_a_packed_batch_has_the_loss_and_gradient_of_the_rows(
    rows: "Dataset", bpe: "PreTrainedTokenizerFast"
) -> None:
    """Labels included: no text is predicted from the one before, and padding changes nothing."""
    import torch

    model = tiny("llama", len(bpe))
    packed = pack(rows, length=40)
    assert len(packed) < len(rows) / 2
    found = []
    for data in (rows, packed):
        batch = collator(bpe, "causal", pad_to_multiple_of=16)(list(data))
        if data is packed:
            assert sorted(n for row in batch["row_id"].tolist() for n in row if n >= 0) == rows["row_id"][:]
        batch.pop("row_id")
        loss = model(**batch).loss
        model.zero_grad()
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((loss.item(), gradient))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert float((found[0][1] - found[1][1]).abs().max()) < 1e-6


def test_packing_keeps_every_row_whole(rows: "Dataset") -> None:
    """Ids, and labels but for the first token, stand in a row's own segment."""
    by_id = {row["row_id"]: row for row in rows}
    seen = []
    for row in pack(rows, length=40):
        starts = [n for n, position in enumerate(row["position_ids"]) if position == 0]
        for number, start, end in zip(
            row["row_id"], starts, [*starts[1:], len(row["input_ids"])], strict=True
        ):
            seen.append(number)
            assert row["input_ids"][start:end] == by_id[number]["input_ids"]
            assert row["labels"][start:end] == [-100, *by_id[number]["labels"][1:]]
            assert row["position_ids"][start:end] == list(range(end - start))
        assert len(row["input_ids"]) <= 40
    assert sorted(seen) == sorted(by_id)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 20), max_size=40))
def test_best_fit_uses_at_most_eleven_ninths_of_the_bins_needed(lengths: list[int]) -> None:
    """Each item once, no bin too full, and the known bound of best-fit decreasing against the sum."""
    bins = best_fit(lengths, 20)
    assert sorted(item for items in bins for item in items) == list(range(len(lengths)))
    filled = [sum(lengths[item] for item in items) for items in bins]
    assert all(total <= 20 for total in filled)
    assert sum(total <= 10 for total in filled) <= 1 or not lengths
    assert bins == sorted(bins)


def test_long_tailed_text_leaves_half_a_percent_of_padding() -> None:
    """4,000 texts of median 30 tokens and at most 512, as paragraphs of documentation are."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(30), 0.95, 4000).astype(int), 1, 512)
    bins = best_fit(lengths.tolist(), 512)
    assert 1 - lengths.sum() / (512 * len(bins)) <= 0.005


def test_what_cannot_be_packed_is_refused(
    rows: "Dataset", words: "Dataset", symbols: "PreTrainedTokenizerFast"
) -> None:
    """Rows too long, by number; packed rows; rows of another task."""
    longest = max(range(len(rows)), key=lambda n: len(rows[n]["input_ids"]))
    with pytest.raises(DataError, match="do not fit into length=3") as caught:
        pack(rows, length=3)
    assert (caught.value.row, caught.value.field, caught.value.found) == (longest + 1, "length", 3)
    assert pack(rows, length=caught.value.suggestion)  # type: ignore[arg-type]  # a length that is enough
    with pytest.raises(DataError, match="packed, once"):
        pack(pack(rows, length=40), length=40)
    with pytest.raises(DataError, match="differ in length"):
        pack(tokenize(words, symbols, "seq2seq").data, length=40)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 99), min_size=1, max_size=300), size=st.integers(1, 8))
def test_batches_of_like_length_hold_each_row_once(lengths: list[int], size: int) -> None:
    """Another order each epoch, the same for the same epoch, and less padding than at random."""
    sampler = LengthSampler(lengths, size)
    order = list(sampler)
    assert sorted(order) == list(range(len(sampler)))
    assert list(sampler) == order

    def width(some: list[int]) -> int:
        return sum(max(lengths[n] for n in some[i : i + size]) for i in range(0, len(some), size))

    assert width(order) <= width(list(range(len(lengths)))) + 99
    sampler.set_epoch(1)
    assert len(set(lengths)) < 20 or list(sampler) != order


def test_a_batch_needs_a_row() -> None:
    """Below one is refused."""
    with pytest.raises(ValueError, match="batch_size=0"):
        LengthSampler([1], 0)
