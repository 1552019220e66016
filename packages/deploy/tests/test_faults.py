"""The silent faults of exporting, planted one by one: the certificate catches each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from distill_deploy import ExportRefusedError, ctranslate2_export, export, save, source
from distill_deploy.backend_ctranslate2 import CTranslate2Generator

pytestmark = pytest.mark.extra("export")  # noqa: S610
Trained = Callable[[str], Path]
Texts = Callable[[str], list[str]]


def refused(folder: Path, out: Path, texts: list[str]) -> list[str]:
    """The failures of an fp32 export that must not be accepted."""
    with pytest.raises(ExportRefusedError):
        export(folder, out, precision="fp32", held_out=texts, max_new_tokens=12)
    failures: list[str] = json.loads((Path(f"{out}.rejected") / "certificate.json").read_text())["failures"]
    return failures


def altered(source: Path, out: Path, change: Callable[[Any], object]) -> Path:
    """A copy of a saved seq2seq model after ``change``."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(source)
    change(model)
    return save(model, AutoTokenizer.from_pretrained(source), out)


def plant_in_marian(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Any, Any], object]) -> None:
    """Let the conversion of Marian end with ``fault(spec, model)``."""
    right = ctranslate2_export._marian_loader

    def faulty() -> Callable[..., Any]:
        def load(model: Any, tokenizer: Any) -> Any:
            spec = right()(model, tokenizer)
            fault(spec, model)
            return spec

        return load

    monkeypatch.setattr(ctranslate2_export, "_marian_loader", faulty)


def test_marian_starting_from_a_zero_embedding(
    trained: Trained, held_out: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CTranslate2's own loader drops the row of <pad> and starts from zeros; training has moved that row."""

    def zero(spec: Any, model: Any) -> None:
        weight = spec.decoder.embeddings.weight.clone()
        assert weight[model.config.pad_token_id].abs().max() > 0.01
        weight[model.config.pad_token_id] = 0
        spec.decoder.embeddings.weight = weight

    plant_in_marian(monkeypatch, zero)
    assert refused(trained("marian"), tmp_path / "e", held_out("marian"))


def test_marian_without_its_logits_bias(
    trained: Trained, held_out: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A final_logits_bias that is not zero is exported; one that gets lost is noticed."""
    import torch

    def bias(model: Any) -> None:
        torch.manual_seed(0)
        model.final_logits_bias = torch.randn_like(model.final_logits_bias)

    folder = altered(trained("marian"), tmp_path / "m", bias)
    done = export(
        folder, tmp_path / "whole", precision="fp32", held_out=held_out("marian"), max_new_tokens=12
    )
    assert done.certificate["verified"]

    def drop(spec: Any, _model: Any) -> None:
        spec.decoder.projection.bias = torch.zeros_like(spec.decoder.projection.bias)

    plant_in_marian(monkeypatch, drop)
    assert refused(folder, tmp_path / "e", held_out("marian"))


def test_a_lost_rope_theta(
    trained: Trained, held_out: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rope_theta that falls back to the family's default changes every position."""
    from ctranslate2.converters.transformers import ModelLoader

    def lost(_self: object, _config: object, default: float) -> tuple[None, None, float]:
        return None, None, default

    monkeypatch.setattr(ModelLoader, "get_rotary_params", lost)
    failures = refused(trained("qwen3"), tmp_path / "e", held_out("qwen3"))
    assert any(re.search("logits differ|tokens differ", failure) for failure in failures)


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def without_frame(folder: Path) -> None:
    """No <eos> is added to a text."""
    edit_json(folder / "tokenizer.json", lambda content: content.update(post_processor=None))


def other_decoder(folder: Path) -> None:
    """Tokens are joined without blanks."""
    fuse = {"type": "Fuse"}
    edit_json(folder / "tokenizer.json", lambda content: content.update(decoder=fuse))


def without_template(folder: Path) -> None:
    """No chat template."""
    (folder / "chat_template.jinja").unlink()


def other_end(folder: Path) -> None:
    """Another token ends an output."""
    edit_json(folder / "runtime.json", lambda content: content.update(eos_token_ids=[0]))


def other_beams(folder: Path) -> None:
    """Beams are weighed otherwise."""
    edit_json(folder / "runtime.json", lambda content: content["generation"].update(length_penalty=3.0))


@pytest.mark.parametrize(
    ("kind", "loss", "named"),
    [
        ("t5", without_frame, "other ids"),
        ("t5", other_decoder, "other texts"),
        ("qwen3", without_template, "chat template"),
        ("qwen3", other_end, "eos_token_ids"),
        ("t5", other_beams, "generation"),
    ],
)
def test_what_a_folder_must_carry(
    trained: Trained,
    held_out: Texts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    loss: Callable[[Path], None],
    named: str,
) -> None:
    """A tokenizer, template, special id or generation default that did not arrive is named."""
    right = source.write_runtime_files

    def lossy(source: Any, out: Path, facts: dict[str, object]) -> None:
        right(source, out, facts)
        loss(out)

    monkeypatch.setattr("distill_deploy.exports.write_runtime_files", lossy)
    failures = refused(trained(kind), tmp_path / "e", held_out(kind))
    assert any(named in failure for failure in failures), failures


def searching(source: Path, out: Path) -> Path:
    """The model with generation defaults that search beams and do not stop early."""

    def beams(model: Any) -> None:
        model.generation_config.num_beams = 4
        model.generation_config.early_stopping = False
        model.final_logits_bias[0, model.config.eos_token_id] = 5  # ends come early, so stopping matters

    return altered(source, out, beams)


def test_beams_that_do_not_stop_early(
    trained: Trained, held_out: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime's beams are the model's with early stopping; what that changes is said, others refused."""
    folder = searching(trained("marian_early"), tmp_path / "m")
    texts = held_out("marian")
    done = export(folder, tmp_path / "whole", precision="fp32", held_out=texts, max_new_tokens=12)
    assert done.certificate["equal_beam_outputs"] == pytest.approx(1, abs=0.1)
    assert "do not stop early" in str(done.certificate["warnings"])

    def greedy(_self: CTranslate2Generator, _decoding: object) -> Mapping[str, object]:
        return {"beam_size": 1}

    monkeypatch.setattr(CTranslate2Generator, "_chosen", greedy)
    failures = refused(folder, tmp_path / "e", texts)
    assert any("beam search gives" in failure for failure in failures)


def test_outputs_of_one_token_prove_nothing(held_out: Texts, trained: Trained, tmp_path: Path) -> None:
    """Perfect agreement on fewer than five distinct tokens is not verified, and the certificate says why."""

    def deaf(model: Any) -> None:
        model.final_logits_bias[0, 30] = 1000  # one token whatever the text

    folder = altered(trained("marian"), tmp_path / "m", deaf)
    done = export(folder, tmp_path / "e", precision="fp32", held_out=held_out("marian"), max_new_tokens=12)
    assert done.certificate["token_agreement"] == 1.0
    assert done.certificate["degenerate"]
    assert not done.certificate["verified"]
    assert "distinct" in str(done.certificate["doubts"])


def test_few_tokens_prove_nothing(trained: Trained, tmp_path: Path) -> None:
    """Under 200 compared tokens an export is kept and not called verified."""
    done = export(
        trained("marian"), tmp_path / "e", precision="fp32", held_out=["kitchen"], max_new_tokens=12
    )
    assert done.certificate["failures"] == []
    assert not done.certificate["verified"]
    assert "200 are needed" in str(done.certificate["doubts"])
