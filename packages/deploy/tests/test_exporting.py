"""Exports agree with the models they were made from, run without torch, and are refused where they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from distill_deploy import (
    ExportError,
    ExportRefusedError,
    MaskFiller,
    RuntimeFacts,
    TextGenerator,
    export,
    load_runtime,
    read_runtime_facts,
    save,
    verify,
)
from distill_deploy.backend_ctranslate2 import CTranslate2Generator

pytestmark = pytest.mark.extra("export")  # noqa: S610
GENERATING = ["marian", "t5", "bart", "gpt2", "llama", "qwen3"]
MASKED = ["bert", "roberta", "distilbert"]
Precision = Literal["fp32", "int8"]
Trained = Callable[[str], Path]
Texts = Callable[[str], list[str]]


def torch_texts(folder: Path, texts: list[str]) -> list[object]:
    """What transformers generates from the saved folder, one text at a time."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    config = json.loads((folder / "config.json").read_text())
    is_seq2seq = bool(config.get("is_encoder_decoder"))
    model = (AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM).from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found: list[object] = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        row = model.generate(**inputs, max_new_tokens=12, do_sample=False, num_beams=1)[0]
        skip = 0 if is_seq2seq else inputs["input_ids"].shape[1]
        found.append(tokenizer.decode(row[skip:], skip_special_tokens=True))
    return found


def torch_best(folder: Path, text: str) -> int:
    """The most likely token of the only mask, by transformers."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    logits = AutoModelForMaskedLM.from_pretrained(folder)(**inputs).logits[0]
    return int(logits[inputs["input_ids"][0] == tokenizer.mask_token_id][0].argmax())


def checked(certificate: Mapping[str, object], agreement: float) -> None:
    """Verified on enough evidence, with the agreement that the precision promises."""
    assert certificate["verified"], (certificate["failures"], certificate["doubts"])
    assert not certificate["accepted"]
    assert isinstance(certificate["positions"], int)
    assert certificate["positions"] >= 200
    assert isinstance(certificate["token_agreement"], float)
    assert certificate["token_agreement"] >= agreement


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", GENERATING)
def test_an_export_generates_what_transformers_generates(
    trained: Trained, held_out: Texts, tmp_path: Path, kind: str, precision: Precision
) -> None:
    """Verified; in fp32 the runtime's greedy texts equal transformers', in int8 nearly all of them."""
    texts = held_out(kind)
    done = export(trained(kind), tmp_path / "e", precision=precision, held_out=texts, max_new_tokens=12)
    checked(done.certificate, 1.0 if precision == "fp32" else 0.99)
    assert verify(tmp_path / "e", require_manifest=True).has_manifest
    runtime = load_runtime(tmp_path / "e", threads=1)
    assert isinstance(runtime, TextGenerator)
    few = texts[::5]
    found, wanted = runtime.generate(few, max_new_tokens=12), torch_texts(trained(kind), few)
    equal = sum(a == b for a, b in zip(found, wanted, strict=True))
    assert equal >= len(few) * (1.0 if precision == "fp32" else 0.8)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", MASKED)
def test_a_masked_export_fills_as_its_model(
    trained: Trained, held_out: Texts, tmp_path: Path, kind: str, precision: Precision
) -> None:
    """Verified, with a manifest, and the mask gets the token that transformers puts there."""
    done = export(trained(kind), tmp_path / "e", precision=precision, held_out=held_out(kind))
    checked(done.certificate, 1.0 if precision == "fp32" else 0.97)
    assert done.format == "onnx"
    assert verify(tmp_path / "e", require_manifest=True).has_manifest
    runtime = load_runtime(tmp_path / "e", threads=1)
    assert isinstance(runtime, MaskFiller)
    (fills,) = runtime.fill(["ab[MASK]def"], top_k=3)
    assert fills[0][0].token_id == torch_best(trained(kind), "ab[MASK]def")
    assert len(fills[0]) == 3
    assert runtime.complete(["ab[MASK]def"]) == [f"a b {fills[0][0].token} d e f"]
    assert runtime.answer(["ab[MASK]def"], max_new_tokens=1, beams=2) == runtime.complete(["ab[MASK]def"])
    assert read_runtime_facts(tmp_path / "e") == RuntimeFacts(
        task="masked", format="onnx", precision=precision, max_new_tokens=64
    )
    with pytest.raises(ValueError, match=r"no \[MASK\]"):
        runtime.fill(["abc"])


def test_fp16_weights_take_half_the_space(trained: Trained, held_out: Texts, tmp_path: Path) -> None:
    """fp16 is for CTranslate2, which computes in float32 on a CPU; onnxruntime there has no fp16."""
    done = export(trained("llama"), tmp_path / "e", precision="fp16", held_out=held_out("llama"))
    checked(done.certificate, 0.99)
    ratio = done.certificate["size_ratio"]
    assert isinstance(ratio, float)
    assert ratio < 0.6
    with pytest.raises(ExportError, match="onnx on a CPU has fp32, int8"):
        export(trained("bert"), tmp_path / "f", precision="fp16")


def test_int8_rounds_activations_only_where_that_agrees(
    trained: Trained, held_out: Texts, tmp_path: Path
) -> None:
    """Where int8 arithmetic agrees too little, the weights stay int8 and the runtime computes in float32."""
    done = export(
        trained("marian_early"),
        tmp_path / "e",
        held_out=held_out("marian"),
        max_new_tokens=12,
        min_agreement=0.95,  # with int8 arithmetic 82 % agree, with int8 weights alone 99 %
    )
    tried = done.certificate["token_agreement_by_compute"]
    assert isinstance(tried, dict)
    assert tried["int8"] < 0.95 <= tried["float32"]
    assert done.certificate["compute"] == "float32"
    runtime = load_runtime(tmp_path / "e", threads=1)
    assert isinstance(runtime, CTranslate2Generator)
    assert runtime.backend.compute_type == "float32"


@pytest.mark.parametrize("kind", ["bert", "gpt2", "marian", "t5"])
def test_shared_weights_are_written_once(trained: Trained, tmp_path: Path, kind: str) -> None:
    """Most of it is its embedding: fp32 takes 1.05 (masked 1.2) times the file, int8 0.35 (masked 0.45)."""
    import transformers

    auto: Any = {"bert": transformers.AutoModelForMaskedLM, "gpt2": transformers.AutoModelForCausalLM}.get(
        kind, transformers.AutoModelForSeq2SeqLM
    )
    config = transformers.AutoConfig.from_pretrained(trained(kind))
    config.vocab_size = 20_000
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained(kind))
    tokenizer.add_tokens([f"word{i}" for i in range(20_000 - len(tokenizer))])
    save(auto.from_config(config), tokenizer, tmp_path / "m")
    masked = kind == "bert"
    bounds: dict[Precision, float] = {"fp32": 1.2 if masked else 1.05, "int8": 0.45 if masked else 0.35}
    for precision, bound in bounds.items():
        done = export(
            tmp_path / "m", tmp_path / precision, precision=precision, allow_failed=True, max_new_tokens=4
        )
        ratio = done.certificate["size_ratio"]
        assert isinstance(ratio, float)
        assert ratio <= bound, precision


def test_a_planted_fault_is_refused_and_moved_aside(trained: Trained, tmp_path: Path) -> None:
    """Refused: nothing stands at OUT, export and certificate at OUT.rejected; allow_failed keeps it."""
    with pytest.raises(ExportRefusedError, match=r"at least 101"):
        export(trained("gpt2"), tmp_path / "e", min_agreement=1.01)
    assert not (tmp_path / "e").exists()
    assert json.loads((tmp_path / "e.rejected" / "certificate.json").read_text())["failures"]
    kept = export(trained("gpt2"), tmp_path / "e", min_agreement=1.01, allow_failed=True)
    assert kept.certificate["accepted"]
    assert not kept.certificate["verified"]


def test_a_metric_outside_the_models_interval_is_refused(trained: Trained, tmp_path: Path) -> None:
    """The task metric of the export must lie within the interval of its model."""
    calls = iter([(1.0, 0.9, 1.1), (0.5, 0.4, 0.6)])
    with pytest.raises(ExportRefusedError, match="outside the model's interval"):
        export(
            trained("gpt2"), tmp_path / "e", precision="fp32", held_out=["abc"], references=["def"],
            metric=lambda _predictions, _references: next(calls),
        )  # fmt: skip


def test_what_has_no_path_is_said(trained: Trained, tmp_path: Path) -> None:
    """A wrong format, precision or folder is an ExportError that says what there is; nothing is written."""
    with pytest.raises(ExportError, match="ctranslate2"):
        export(trained("gpt2"), tmp_path / "e", format="onnx")
    with pytest.raises(ExportError, match="fp32, fp16, int8"):
        export(trained("gpt2"), tmp_path / "e", precision="int3")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(ExportError, match="merge it first"):
        export(tmp_path / "adapter", tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_running_imports_no_torch_and_ends_cleanly_after_streaming(trained: Trained, tmp_path: Path) -> None:
    """No torch, no transformers; a live backend that streamed does not abort the interpreter at its end."""
    export(trained("marian"), tmp_path / "e", precision="fp32", max_new_tokens=12)
    code = (
        "import sys; from distill_deploy import load_runtime; r = load_runtime(sys.argv[1]);"
        "print(''.join(r.stream('abc'))); assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "e")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "distill_deploy"]
    ran = subprocess.run(
        [*command, "run", str(tmp_path / "e"), "abc"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == done.stdout
    (tmp_path / "e" / "runtime.json").write_text("{}")
    bad = subprocess.run(
        [*command, "verify", str(tmp_path / "e")], capture_output=True, text=True, check=False
    )
    assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
    assert "runtime.json" in bad.stderr
