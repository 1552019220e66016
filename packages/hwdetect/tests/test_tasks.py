"""What a model is for, from its configuration alone."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from distill_hwdetect import ModelConfigError, read_model_facts, task_of

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "intermediate_size": 128}


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"model_type": "ernie", "architectures": ["ErnieForMaskedLM"]}, "masked"),
        ({"model_type": "roformer", "architectures": ["RoFormerForMaskedLM"]}, "masked"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True}, "causal"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"], "is_decoder": True}, "masked"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "causal"),
        ({"model_type": "flaubert", "architectures": ["FlaubertWithLMHeadModel"]}, "masked"),
        ({"model_type": "reformer", "architectures": ["ReformerModelWithLMHead"]}, "causal"),
        ({"model_type": "marian", "architectures": ["MarianMTModel"]}, "seq2seq"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "seq2seq"),
        ({"architectures": ["T5WithLMHeadModel"], "is_encoder_decoder": True}, "seq2seq"),
        ({"architectures": ["BartForCausalLM"], "is_encoder_decoder": True}, "causal"),
        ({"architectures": ["BartModel"], "is_encoder_decoder": True}, "seq2seq"),
        ({"architectures": ["NewForSeq2SeqLM"]}, "seq2seq"),
        ({"model_type": "new", "architectures": ["NewForCausalLM"]}, "causal"),
        (
            {
                "architectures": ["Gemma3ForConditionalGeneration"],
                "text_config": {"model_type": "gemma3_text"},
            },
            "causal",
        ),
        ({"architectures": ["NewModel", "NewForMaskedLM"]}, "masked"),
    ],
)
def test_the_architectures_decide(config: Mapping[str, object], task: str) -> None:
    """The class says what the head is for; the model type and its flags do not overrule it."""
    assert task_of(config) == task


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"model_type": "marian"}, "seq2seq"),
        ({"model_type": "roformer"}, "masked"),
        ({"model_type": "bert", "is_decoder": True}, "causal"),
        ({"model_type": "bert", "architectures": None, "is_encoder_decoder": False}, "masked"),
        ({"model_type": "qwen3"}, "causal"),
        ({"model_type": "new", "is_encoder_decoder": True}, "seq2seq"),
        ({"model_type": "new", "text_config": {"model_type": "llama"}}, "causal"),
    ],
)
def test_without_architectures_flags_and_model_type_decide(config: Mapping[str, object], task: str) -> None:
    """A fresh configuration names no class yet."""
    assert task_of(config) == task


@pytest.mark.parametrize(
    ("architecture", "flags"),
    [
        ("BertForSequenceClassification", {}),
        ("BartForSequenceClassification", {"is_encoder_decoder": True}),
        ("T5EncoderModel", {"is_encoder_decoder": True}),
        ("LlamaModel", {}),
        ("LlavaForConditionalGeneration", {"text_config": {"model_type": "llama"}}),
    ],
)
def test_another_head_is_none_of_the_three(architecture: str, flags: Mapping[str, object]) -> None:
    """The error names the architectures; the sizes are read all the same, and their task is None."""
    content = {"model_type": "bert", "architectures": [architecture], **SIZES, **flags}
    with pytest.raises(ModelConfigError) as caught:
        task_of(content)
    assert (caught.value.field, caught.value.found) == ("architectures", (architecture,))
    facts = read_model_facts(content)
    assert (facts.task, facts.layers) == (None, 2)


def test_an_unknown_model_type_is_refused_with_the_nearest() -> None:
    """Without architectures there is nothing else to go by."""
    with pytest.raises(ModelConfigError) as caught:
        task_of({"model_type": "lama"})
    error = caught.value
    assert (error.field, error.found, error.suggestion) == ("model_type", "lama", "llama")


def test_a_folder_and_its_file_are_read(tmp_path: Path) -> None:
    """What ``save_pretrained`` writes."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}), encoding="utf-8")
    assert task_of(tmp_path) == task_of(str(tmp_path / "config.json")) == "seq2seq"
    with pytest.raises(ModelConfigError) as caught:
        task_of(tmp_path / "elsewhere")
    assert (caught.value.field, caught.value.found) == ("config", str(tmp_path / "elsewhere"))


def test_sizes_carry_the_same_task() -> None:
    """``read_model_facts`` asks ``task_of``; a BERT that writes has BERT's size, and its blocks decode."""
    reads = read_model_facts({"model_type": "bert", "architectures": ["BertForMaskedLM"]})
    writes = read_model_facts({"model_type": "bert", "architectures": ["BertLMHeadModel"]})
    assert (reads.task, reads.decoder_layers) == ("masked", 0)
    assert (writes.task, writes.decoder_layers) == ("causal", 12)
    assert writes.parameters == reads.parameters
    assert read_model_facts({"model_type": "ernie", **SIZES}).task == "masked"
