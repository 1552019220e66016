"""Sizes of models from their configurations alone."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from distill_hwdetect import ModelConfigError, read_model_facts

LLAMA = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
QWEN = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
MARIAN = {
    "vocab_size": 120,
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
}
NEOX = {
    "vocab_size": 50304,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
}


@pytest.mark.parametrize(
    ("family", "config", "parameters", "task", "layers"),
    [
        ("gpt2", {}, 124_439_808, "causal", 12),
        ("opt", {}, 125_239_296, "causal", 12),
        ("gpt_neox", NEOX, 70_426_624, "causal", 6),
        ("llama", LLAMA, 134_515_008, "causal", 30),
        ("qwen3", QWEN, 596_049_920, "causal", 28),
        ("t5", {}, 60_506_624, "seq2seq", 12),
        ("mt5", {}, 172_119_424, "seq2seq", 16),
        ("bart", {}, 406_291_456, "seq2seq", 24),
        ("marian", MARIAN, 940_032, "seq2seq", 4),
        ("bert", {}, 109_514_298, "masked", 12),
        ("roberta", {}, 124_696_665, "masked", 12),
        ("distilbert", {}, 66_985_530, "masked", 6),
        ("modernbert", {}, 149_655_232, "masked", 22),
    ],
)
def test_parameters_equal_those_of_the_instantiated_model(
    family: str, config: Mapping[str, object], parameters: int, task: str, layers: int
) -> None:
    """Exact counts. Source: ``sum(p.numel())`` of what transformers 5.24 builds on the meta device."""
    facts = read_model_facts({"model_type": family, **config})
    assert (facts.parameters, facts.task, facts.layers, facts.family) == (parameters, task, layers, family)


def test_a_folder_its_config_and_its_content_say_the_same(tmp_path: Path) -> None:
    """A path to a folder, a path to the file, a string and a mapping are all taken."""
    content = {"model_type": "llama", **LLAMA}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    expected = read_model_facts(content)
    for given in (tmp_path, tmp_path / "config.json", str(tmp_path)):
        assert read_model_facts(given) == expected


def test_a_nested_text_model_is_the_one_sized() -> None:
    """Models of several modalities keep the language model under ``text_config``."""
    assert read_model_facts({"model_type": "x", "text_config": {"model_type": "llama", **LLAMA}}).layers == 30


@pytest.mark.parametrize(
    ("config", "words", "found", "suggestion"),
    [
        ({"model_type": "unheard_of"}, "Add one of them", None, "hidden_size"),
        ({"model_type": "bert", "hidden_size": "wide"}, "whole number above 0", "wide", 768),
        ({"model_type": "bert", "hidden_size": 0}, "whole number above 0", 0, 768),
    ],
)
def test_a_configuration_that_says_too_little_is_refused(
    config: Mapping[str, object], words: str, found: object, suggestion: object
) -> None:
    """The error names the keys that are missing or wrong, and survives pickling with its data."""
    with pytest.raises(ModelConfigError, match=words) as caught:
        read_model_facts(config)
    error = caught.value
    assert (error.field, error.found, error.suggestion) == ("hidden_size", found, suggestion)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert (str(again), vars(again)) == (str(error), vars(error))


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: str | None) -> None:
    """Missing, broken or no object: the error names the file."""
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ModelConfigError, match=r"config\.json"):
        read_model_facts(tmp_path)


def test_t5_keeps_a_layer_of_each_block_out_of_quantization() -> None:
    """Its feed-forward's output stays in float32, so a wider one adds to it; BART's does not."""
    t5 = {"model_type": "t5", "vocab_size": 100, "d_model": 8, "num_layers": 2, "num_decoder_layers": 3}
    bart = {"model_type": "bart", "vocab_size": 100, "d_model": 8}
    grown = {
        str(shape["model_type"]): read_model_facts({**shape, **wide}).unquantized_parameters
        - read_model_facts({**shape, **narrow}).unquantized_parameters
        for shape, narrow, wide in (
            (t5, {"d_ff": 32}, {"d_ff": 64}),
            (bart, {"encoder_ffn_dim": 32}, {"encoder_ffn_dim": 64}),
        )
    }
    assert grown == {"t5": (2 + 3) * 32 * 8, "bart": 0}
