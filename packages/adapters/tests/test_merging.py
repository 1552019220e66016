"""An adapter knows its base, and merges into it without saying something else."""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import distill_adapters
from distill_adapters import (
    AdapterConfig,
    ConfigError,
    LoadedModel,
    MergeError,
    ModelLoadError,
    ResumeError,
    attach,
    load_model,
    merge,
    model_report,
    save_model,
)
from distill_adapters.__main__ import main
from distill_adapters.base_identity import weights_fingerprint
from distill_deploy import verify

qlora = pytest.mark.extra("qlora")  # noqa: S610 - a marker, not a query


def moved(loaded: LoadedModel, **config: Any) -> LoadedModel:
    """An adapter that says something, without training it."""
    adapted = attach(loaded, AdapterConfig(**config))
    torch.manual_seed(1)
    with torch.no_grad():
        for part in adapted.model.parameters():
            if part.requires_grad:
                part.add_(0.1 * torch.randn_like(part))
    return adapted


def logits(loaded: LoadedModel) -> torch.Tensor:
    """Of fixed token ids, ``(2, 6, vocab)``."""
    ids = torch.arange(12).reshape(2, 6)
    loaded.model.train(mode=False)
    with torch.no_grad():
        scores: torch.Tensor = loaded.model(input_ids=ids).logits
    return scores


@pytest.fixture(name="adapter")
def _adapter(make: Any, make_policy: Any, tmp_path: Path) -> Any:
    """``adapter(quantization, **config)``: base and adapter of a tiny Llama, saved."""

    def build(quantization: str = "none", **config: Any) -> tuple[Path, Path]:
        base = save_model(make("llama", hidden_size=64), tmp_path / "base")
        policy = make_policy("llama", adapter="lora", quantization=quantization)
        return base, save_model(moved(load_model(base, policy), **config), tmp_path / "adapter")

    return build


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "ia3"},
        {"kind": "miss"},
        {"rank_stabilized": True},
        {"decomposed": True},
        {"modules_to_save": ("lm_head",)},
    ],
    ids=str,
)
def test_every_kind_saves_loads_and_merges(
    config: dict[str, Any], adapter: Any, make_policy: Any, tmp_path: Path
) -> None:
    """Reloaded bit for bit, merged within 1e-5 of the largest logit; plain transformers reads the result."""
    base, folder = adapter(**config)
    policy = make_policy("llama", training=False)
    expected = logits(load_model(folder, policy, training=False))
    assert not torch.allclose(expected, logits(load_model(base, policy, training=False)), atol=1e-3)
    merge(folder, tmp_path / "merged", bound=1e-5)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        scores = plain(input_ids=torch.arange(12).reshape(2, 6)).logits
    assert float((scores - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@qlora
def test_of_two_merges_the_nearer_is_kept(adapter: Any, tmp_path: Path) -> None:
    """Four bits dequantized say what was trained; the original weights do not, and that is measured."""
    _, folder = adapter("nf4")
    assert verify(folder).metadata["base_quantization"] == "nf4"
    merged = verify(merge(folder, tmp_path / "merged")).metadata
    assert merged["merged_into"] == "dequantized"
    assert float(merged["drift_dequantized"]) <= 1e-4 < float(merged["drift_original"])
    with pytest.raises(MergeError, match=r"more than 1e-04; nothing was written"):
        merge(folder, tmp_path / "other", into="original")
    assert not (tmp_path / "other").exists()
    merge(folder, tmp_path / "other", into="original", bound=1.0, texts=["w1 w2 w3", "w4"])
    assert verify(tmp_path / "other").metadata["merged_into"] == "original"


@qlora
def test_eight_bits_merge_within_their_bound(adapter: Any, tmp_path: Path) -> None:
    """LLM.int8 rounds activations, which no merged model repeats; the result is an ordinary folder."""
    _, folder = adapter("int8")
    merge(folder, tmp_path / "merged")
    assert float(verify(tmp_path / "merged").metadata["merge_drift"]) < 0.05
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())


def test_ways_that_do_not_exist_are_refused(adapter: Any, tmp_path: Path) -> None:
    """With what does; and a place that is taken, before anything is loaded."""
    base, folder = adapter()
    with pytest.raises(ConfigError) as caught:
        merge(folder, tmp_path / "merged", into="origin")
    assert (caught.value.field, caught.value.suggestion) == ("into", "original")
    assert caught.value.allowed == ("auto", "original", "dequantized")
    with pytest.raises(ConfigError, match="the adapter's base was not quantized") as caught:
        merge(folder, tmp_path / "merged", into="dequantized")
    assert (caught.value.field, caught.value.suggestion) == ("into", "auto")
    with pytest.raises(FileExistsError, match="Choose another folder"):
        merge(folder, base)


def test_tied_embeddings_and_modes_survive(make: Any, make_policy: Any, tmp_path: Path) -> None:
    """The merged folder keeps one tensor for both, and everybody may read it that the umask lets."""
    base = save_model(make("llama", tie_word_embeddings=True), tmp_path / "base")
    adapted = moved(load_model(base, make_policy("llama", adapter="lora")))
    expected = logits(adapted)
    merged = merge(save_model(adapted, tmp_path / "adapter"), tmp_path / "merged")
    loaded = load_model(merged, make_policy("llama", training=False), training=False)
    model: Any = loaded.model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert float((logits(loaded) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    (tmp_path / "plain").touch()
    allowed = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in merged.iterdir()} == {allowed}


def test_an_adapter_is_refused_on_another_base(
    adapter: Any, make: Any, make_policy: Any, tmp_path: Path
) -> None:
    """Same shapes, other weights: both fingerprints are named. The same weights elsewhere are welcome."""
    base, folder = adapter()
    policy = make_policy("llama", adapter="lora")
    expected = logits(load_model(folder, policy))
    other = save_model(make("llama", hidden_size=64, seed=3), tmp_path / "other")
    with pytest.raises(ModelLoadError, match="was trained on other weights than those of"):
        load_model(folder, policy, base=other)
    base.rename(tmp_path / "moved")
    with pytest.raises(ModelLoadError, match="which does not exist any more"):
        load_model(folder, policy)
    assert torch.equal(logits(load_model(folder, policy, base=tmp_path / "moved")), expected)
    merge(folder, tmp_path / "merged", base=tmp_path / "moved")
    shutil.copytree(other, base)
    with pytest.raises(ModelLoadError, match="fingerprint"):
        merge(folder, tmp_path / "again")
    with pytest.raises(ModelLoadError, match="is not an adapter"):
        load_model(other, policy, base=base)


def test_a_run_does_not_go_on_over_another_base(
    make: Any, make_policy: Any, make_trainer: Any, tmp_path: Path
) -> None:
    """A checkpoint holds the adapter alone, so that its base has to be the same."""
    for seed, resume in ((0, None), (1, True)):
        base = save_model(make("llama", seed=seed), tmp_path / f"base{seed}")
        adapted = attach(load_model(base, make_policy("llama", adapter="lora")))
        trainer = make_trainer("llama", loaded=adapted, config={"save_every": 2})
        if resume is None:
            trainer.train()
        else:
            with pytest.raises(ResumeError, match="base = "):
                trainer.train(resume_from_checkpoint=resume)


def test_a_fingerprint_is_of_the_weights(make: Any, tmp_path: Path) -> None:
    """However they are cut into files and whatever stands beside them; one other number shows."""
    loaded = make("llama")
    whole = save_model(loaded, tmp_path / "whole")
    loaded.model.save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    assert len(list((tmp_path / "cut").glob("*.safetensors"))) > 1
    assert weights_fingerprint(whole) is not None
    assert weights_fingerprint(whole) == weights_fingerprint(tmp_path / "cut")
    with torch.no_grad():
        loaded.model.model.norm.weight[0] += 1
    assert weights_fingerprint(save_model(loaded, tmp_path / "other")) != weights_fingerprint(whole)
    assert weights_fingerprint(None) is None
    assert weights_fingerprint("nobody/nothing") is None


def test_an_adapter_that_lacks_a_tensor_is_refused(adapter: Any, make_policy: Any) -> None:
    """Where a stranger's folder has no manifest that would say so."""
    from safetensors.torch import load_file, save_file

    _, folder = adapter()
    (folder / "MANIFEST.json").unlink()
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, file)
    with pytest.raises(ModelLoadError, match=r"does not fit .*missing adapter keys"):
        load_model(folder, make_policy("llama", adapter="lora"))


def test_the_command_line_takes_base_texts_and_bound(
    adapter: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the function does."""
    base, folder = adapter()
    base.rename(tmp_path / "moved")
    (tmp_path / "texts").write_text("w1 w2\n\nw3\n", encoding="utf-8")
    options = ["--base", str(tmp_path / "moved"), "--texts", str(tmp_path / "texts")]
    assert main(["merge", str(folder), str(tmp_path / "merged"), *options, "--bound", "1e-12"]) == 1
    assert "more than 1e-12" in capsys.readouterr().err
    assert main(["merge", str(folder), str(tmp_path / "merged"), *options]) == 0


@qlora
@pytest.mark.parametrize("kind", ["ia3", "miss"])
def test_kin_of_lora_stand_on_four_bits(kind: str, make: Any, make_policy: Any, tmp_path: Path) -> None:
    """And reload the same."""
    base = save_model(make("llama", hidden_size=64), tmp_path / "base")
    policy = make_policy("llama", adapter="lora", quantization="nf4")
    adapted = moved(load_model(base, policy), kind=kind)
    assert model_report(adapted).quantized_parameters > 0
    save_model(adapted, tmp_path / "adapter")
    torch.testing.assert_close(logits(load_model(tmp_path / "adapter", policy)), logits(adapted))


def test_the_command_line_prints_its_version() -> None:
    """As a program, without loading torch."""
    command = [sys.executable, "-X", "importtime", "-m", "distill_adapters", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"distill-adapters {distill_adapters.__version__}\n"
    assert "| torch\n" not in done.stderr
