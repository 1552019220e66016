"""Optimum's exports: made in an environment of their own, verified as ours are, run without torch."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_deploy import ExportedModel, ExportError, MissingExtraError, TextGenerator, export, load_runtime
from distill_deploy.downgrade import downgraded_config, downgraded_tokenizer, write_downgraded
from distill_deploy.isolation import isolated_python

pytestmark = pytest.mark.extra("export")  # noqa: S610
Trained = Callable[[str], Path]
Texts = Callable[[str], list[str]]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# What uv says where no answer came. "Failed to fetch" alone is also said of a package that is gone (404).
UNREACHABLE = ("error sending request for url", "operation timed out", "the network was disabled")


def unreachable(error: ExportError) -> bool:
    """Whether uv got no answer from the index."""
    return any(said in str(error) for said in UNREACHABLE)


def through_optimum(folder: Path, out: Path, texts: list[str], **options: Any) -> ExportedModel:
    """An export in an environment of its own; skipped where the index that it is made from is not there."""
    try:
        return export(
            folder, out, exporter="optimum", isolated=True, held_out=texts, max_new_tokens=12, **options
        )
    except ExportError as error:
        if unreachable(error):
            pytest.skip(f"the package index cannot be reached: {error}")
        raise


@pytest.fixture(scope="module")
def t5(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """A T5 in fp32, by optimum-onnx."""
    texts = [(2 * LETTERS)[start : start + 7] for start in range(26)]
    return through_optimum(trained("t5"), tmp_path_factory.mktemp("t5") / "e", texts, precision="fp32")


def test_a_t5_is_exported_in_an_environment_of_its_own(t5: ExportedModel) -> None:
    """Verified against what this environment recorded; the certificate says who made it, where and why."""
    found = t5.certificate
    assert found["verified"], (found["failures"], found["doubts"])
    assert (found["exporter"], found["isolated"], found["format"]) == ("optimum", True, "onnx")
    versions = found["exporter_versions"]
    assert isinstance(versions, dict)
    assert versions["transformers"].startswith("4.57.")
    assert "optimum-onnx in an environment of its own" in str(found["reason"])
    assert found["equal_outputs"] == 1.0
    assert {name for name in t5.files if name.endswith(".onnx")} == {
        "encoder_model.onnx",
        "decoder_model_merged.onnx",
    }


def test_its_runtime_streams_stops_and_batches(t5: ExportedModel) -> None:
    """One greedy loop serves all; what it has not, it names with what there is."""
    runtime = load_runtime(t5.path, threads=1)
    assert isinstance(runtime, TextGenerator)
    texts = ["abcdef", "kl", "uvwxyza"]
    alone = [runtime.generate([text])[0] for text in texts]
    words = alone[0].split()
    assert len(set(words)) >= 5
    assert runtime.generate(texts) == alone
    assert "".join(runtime.stream("abcdef")) == alone[0]
    assert runtime.generate(["abcdef"], stop=[f" {words[4]}"]) == [alone[0].split(f" {words[4]}")[0]]
    assert runtime.generate(["abcdef"], max_new_tokens=2) == [" ".join(words[:2])]
    for wrong in ({"beams": 2}, {"temperature": 1.0}):
        with pytest.raises(ValueError, match="it has greedy decoding, stop texts"):
            runtime.generate(["abc"], **wrong)


@pytest.mark.parametrize(
    ("cause", "skipped"),
    [
        ("error sending request for url (https://index/simple/six/)", True),
        ("HTTP status client error (404 Not Found) for url (https://index/six.whl)", False),
        ("Hash mismatch for `six==1.0`", False),
    ],
)
def test_only_an_index_that_does_not_answer_is_skipped(cause: str, skipped: bool) -> None:
    """A pinned package that is gone, or another than it was, is a failure: users would meet it too."""
    error = ExportError(f"uv could not make the exporter's environment: Failed to fetch: cause: {cause}")
    assert unreachable(error) == skipped


HERE = """
import sys
from distill_deploy import export
made = export(
    sys.argv[1], sys.argv[2], exporter="optimum", precision="fp32", held_out=sys.argv[3:], max_new_tokens=12
)
print(made.certificate["verified"], made.certificate["isolated"], made.certificate["reason"])
"""


@pytest.mark.slow
def test_optimum_is_run_where_it_is_installed(trained: Trained, held_out: Texts, tmp_path: Path) -> None:
    """In an environment with its older transformers, which then also records the reference."""
    spec = importlib.util.find_spec("distill_deploy")
    assert spec is not None
    assert spec.origin is not None
    there = {**os.environ, "PYTHONPATH": str(Path(spec.origin).parents[1]), "PYTHONNOUSERSITE": "1"}
    done = subprocess.run(
        [
            str(isolated_python("optimum-onnx")), "-W", "ignore", "-c", HERE, str(trained("t5")),
            str(tmp_path / "e"), *held_out("t5"),
        ],
        capture_output=True, text=True, check=False, env=there,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True False optimum-onnx in this environment was asked for")


@pytest.mark.parametrize(
    ("kind", "asked", "said"),
    [
        ("llama", {"format": "onnx", "exporter": "optimum"}, "through Optimum .* as openvino"),
        ("t5", {"format": "openvino"}, "through Optimum .* as onnx"),
        ("t5", {"exporter": "own", "isolated": True}, "need no environment"),
        ("t5", {"format": "onnx", "precision": "fp16"}, "onnx on a CPU has fp32, int8"),
        ("bert", {"format": "openvino", "precision": "int3"}, "openvino on a CPU has fp32, fp16, int8"),
    ],
)
def test_what_optimum_has_no_path_for_is_said(
    trained: Trained, tmp_path: Path, kind: str, asked: dict[str, Any], said: str
) -> None:
    """An ExportError with what there is, before anything is started."""
    with pytest.raises(ExportError, match=said):
        export(trained(kind), tmp_path / "e", **asked)
    assert not (tmp_path / "e").exists()


def test_nothing_is_started_unasked(trained: Trained, tmp_path: Path) -> None:
    """Where Optimum is not installed, the error names --isolated and the extra."""
    with pytest.raises(MissingExtraError, match=r"--isolated.*distill-deploy\[optimum-intel\]"):
        export(trained("bert"), tmp_path / "e", format="openvino")


def test_a_rotary_embedding_is_written_where_older_transformers_look() -> None:
    """rope_theta to the top, other kinds as rope_scaling; what differs by layer is refused."""
    default = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "hidden_size": 8}
    assert downgraded_config(default) == {"hidden_size": 8, "rope_theta": 500.0}
    scaled = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}
    assert downgraded_config(scaled) == {
        "rope_theta": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }
    partial = {"rope_parameters": {"rope_type": "default", "rope_theta": 1.0, "partial_rotary_factor": 0.5}}
    assert downgraded_config(partial) == {"rope_theta": 1.0, "partial_rotary_factor": 0.5}
    with pytest.raises(ExportError, match="differs from layer to layer"):
        downgraded_config({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}})
    assert downgraded_config({"hidden_size": 8}) == {"hidden_size": 8}


def test_a_legacy_copy_links_weights_and_names_a_tokenizer_that_all_know(
    trained: Trained, tmp_path: Path
) -> None:
    """The weights are not copied, and the folder it was made from stays as it was."""
    copy = write_downgraded(trained("qwen3"), tmp_path / "copy")
    assert json.loads((copy / "config.json").read_text())["rope_theta"] == 500.0
    assert json.loads((copy / "tokenizer_config.json").read_text())["tokenizer_class"] == (
        "PreTrainedTokenizerFast"
    )
    weights = copy / "model.safetensors"
    assert weights.resolve() == (trained("qwen3") / "model.safetensors").resolve()
    kept = downgraded_tokenizer({"eos_token": "</s>", "pad_token": None, "extra_special_tokens": ["<a>"]})
    assert kept == {"eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
