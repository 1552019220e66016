"""Exports agree with the models they were made from, run without torch, and are refused where they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from distill_deploy import (
    ExportError,
    ExportRefusedError,
    MaskFiller,
    TextGenerator,
    export,
    load_runtime,
    verify,
)

pytestmark = pytest.mark.extra("export")  # noqa: S610
GENERATING = ["marian", "t5", "gpt2", "llama"]
TEXTS = ["abc", "hello", "xyz", "q", "kite"]
Precision = Literal["fp32", "int8"]
Trained = Callable[[str], Path]


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
    """The likeliest token of the only mask, by transformers."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    logits = AutoModelForMaskedLM.from_pretrained(folder)(**inputs).logits[0]
    return int(logits[inputs["input_ids"][0] == tokenizer.mask_token_id][0].argmax())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", GENERATING)
def test_an_export_generates_what_transformers_generates(
    trained: Trained, tmp_path: Path, kind: str, precision: Precision
) -> None:
    """The certificate verifies, the folder is sealed, and the runtime's greedy texts equal transformers'."""
    held_out = (
        [text * 2 for text in TEXTS] + TEXTS if kind in ("marian", "t5") else ["abc", "fgh", "xyz", "k", "pq"]
    )
    done = export(
        trained(kind),
        tmp_path / "e",
        precision=precision,
        held_out=held_out,
        max_new_tokens=12,
        accept=precision == "int8",
    )
    certificate = done.certificate
    assert not certificate["degenerate"]
    assert certificate["verified"] or precision == "int8"
    agreement = certificate["token_agreement"]
    assert isinstance(agreement, float)
    assert agreement >= (1.0 if precision == "fp32" else 0.9)
    assert verify(tmp_path / "e", require_manifest=True).sealed
    if precision == "fp32":
        runtime = load_runtime(tmp_path / "e", threads=1)
        assert isinstance(runtime, TextGenerator)
        assert runtime.generate(held_out, max_new_tokens=12) == torch_texts(trained(kind), held_out)
        assert "".join(runtime.stream(held_out[0], max_new_tokens=12)) == runtime.generate(held_out[:1])[0]
        assert len(runtime.generate(held_out, beams=3)) == len(held_out)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_masked_export_fills_as_its_model(trained: Trained, tmp_path: Path, precision: Precision) -> None:
    """BERT through onnxruntime: verified, and the mask gets the token that transformers puts there."""
    texts = ["abcdef", "mnopqr", "bcdefg", "jklmno", "stuvwx", "uvwxyz"]
    done = export(trained("bert"), tmp_path / "e", precision=precision, held_out=texts)
    assert done.certificate["verified"]
    assert done.format == "onnx"
    runtime = load_runtime(tmp_path / "e", threads=1)
    assert isinstance(runtime, MaskFiller)
    (fills,) = runtime.fill(["ab[MASK]def"], top_k=3)
    best = torch_best(trained("bert"), "ab[MASK]def")
    assert fills[0][0].token_id == best
    assert len(fills[0]) == 3
    assert runtime.complete(["ab[MASK]def"]) == [f"a b {fills[0][0].token} d e f"]
    with pytest.raises(ValueError, match=r"no \[MASK\]"):
        runtime.fill(["abc"])


def test_a_planted_fault_is_refused_and_moved_aside(trained: Trained, tmp_path: Path) -> None:
    """An unreachable floor refuses: nothing at OUT, the export and certificate at OUT.rejected; accept keeps it."""  # noqa: E501
    with pytest.raises(ExportRefusedError, match=r"floor is 101"):
        export(trained("gpt2"), tmp_path / "e", floor=1.01)
    assert not (tmp_path / "e").exists()
    assert json.loads((tmp_path / "e.rejected" / "certificate.json").read_text())["failures"]
    kept = export(trained("gpt2"), tmp_path / "e", floor=1.01, accept=True)
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
    with pytest.raises(ExportError, match="fp32 and int8"):
        export(trained("gpt2"), tmp_path / "e", precision="int3")  # type: ignore[arg-type]  # what is tested
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
