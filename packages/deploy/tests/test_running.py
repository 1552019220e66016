"""Exports generate as their models do, without torch: beams, sampling, stops, chats, streams, batches."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_deploy import (
    RUNTIME_FILE,
    IntegrityError,
    TextGenerator,
    export,
    load_runtime,
    read_runtime_facts,
)

pytestmark = pytest.mark.extra("export")  # noqa: S610
Trained = Callable[[str], Path]
Texts = Callable[[str], list[str]]
Exported = Callable[[str], TextGenerator]


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The fp32 export of a kind, made once; to OpenVINO by Optimum in an environment of its own."""
    made: dict[tuple[str, bool], Path] = {}

    def make(kind: str, *, openvino: bool = False) -> Path:
        if (kind, openvino) not in made:
            out = tmp_path_factory.mktemp(kind) / "export"
            how: dict[str, Any] = {"format": "openvino", "isolated": True} if openvino else {}
            done = export(trained(kind), out, precision="fp32", max_new_tokens=12, **how)
            made[kind, openvino] = done.path
        return made[kind, openvino]

    return make


@pytest.fixture
def runtime(exported: Callable[[str], Path]) -> Exported:
    """Its runtime, on one thread."""

    def load(kind: str) -> TextGenerator:
        found = load_runtime(exported(kind), threads=1)
        assert isinstance(found, TextGenerator)
        return found

    return load


def torch_beams(folder: Path, texts: list[str]) -> list[object]:
    """What transformers' beam search gives, with early stopping as CTranslate2 has it."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    found: list[object] = []
    for text in texts:
        ids = torch.tensor([tokenizer(text).input_ids])
        row = model.generate(
            input_ids=ids, num_beams=4, early_stopping=True, do_sample=False, max_new_tokens=12,
            suppress_tokens=[tokenizer.pad_token_id],
        )[0, 1:]  # fmt: skip
        found.append(tokenizer.decode(row, skip_special_tokens=True))
    return found


def test_beams_are_transformers_beams(
    trained: Trained, exported: Callable[[str], Path], held_out: Texts
) -> None:
    """Four beams with early stopping choose the texts that transformers chooses, greedy others."""
    texts = held_out("marian")[:20]
    runtime = load_runtime(exported("marian_early"), threads=1)
    assert isinstance(runtime, TextGenerator)
    wanted = torch_beams(trained("marian_early"), texts)
    found = runtime.generate(texts, beams=4)
    assert sum(a == b for a, b in zip(found, wanted, strict=True)) >= 19
    assert runtime.generate(texts) != found


def test_an_answer_is_what_is_generated(runtime: Exported) -> None:
    """Whoever does not ask for the task calls ``answer``: greedy, with beams, of any length, in batches."""
    model, texts = runtime("marian"), ["abcdef", "uvwxyz"]
    assert model.answer(texts) == model.generate(texts)
    assert model.answer(texts, max_new_tokens=2, beams=3, batch_size=1) == model.generate(
        texts, max_new_tokens=2, beams=3
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not an exported model"),
        ("{", "is not valid JSON"),
        ("[]", "names the task None; allowed: causal, seq2seq, masked"),
        ('{"task": "vision"}', "names the task 'vision'; allowed: causal, seq2seq, masked"),
        ('{"task": "causal", "format": "onnx", "precision": "int8"}', "lacks 'max_new_tokens'"),
    ],
)
def test_a_folder_that_does_not_say_what_it_is_is_refused(
    tmp_path: Path, content: str | None, said: str
) -> None:
    """Missing, not valid JSON, another task, a fact left out: each is an IntegrityError."""
    if content is not None:
        (tmp_path / RUNTIME_FILE).write_text(content)
    with pytest.raises(IntegrityError, match=said):
        read_runtime_facts(tmp_path)


def test_sampling_is_repeatable_and_bounded(exported: Callable[[str], Path]) -> None:
    """A seed repeats the draws, others differ; one candidate is greedy whatever the temperature."""
    texts = ["abcdef", "kitche", "qrstuv"]

    def drawn(seed: int | None) -> list[str]:
        model = load_runtime(exported("marian_early"), threads=1, seed=seed)
        assert isinstance(model, TextGenerator)
        assert model.generate(texts, temperature=2.0, top_k=1) == model.generate(texts)
        assert model.generate(texts, temperature=2.0, top_p=1e-6) == model.generate(texts)
        return model.generate(texts, temperature=1.5) + model.generate(texts, temperature=1.5)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(None) != drawn(None)


@pytest.mark.parametrize("kind", ["marian", "llama", "gpt2"])
def test_streams_join_to_what_is_generated(runtime: Exported, kind: str) -> None:
    """Piece by piece or at once, with a stop text or without."""
    model = runtime(kind)
    whole = model.generate(["abc"])[0]
    pieces = list(model.stream("abc"))
    assert "".join(pieces) == whole
    assert len(pieces) > 2
    words = whole.split()
    assert "".join(model.stream("abc", stop=[f" {words[2]}"])) == " ".join(words[:2])


@pytest.mark.parametrize("kind", ["marian", "llama"])
def test_stop_texts_end_an_output(runtime: Exported, kind: str) -> None:
    """Each row ends before the first stop text in it; rows without one go on; beams are cut as well."""
    model = runtime(kind)
    texts = ["abcdef", "uvwxyz"]
    plain = model.generate(texts)
    stop = plain[0].split()[2]
    wanted = [text.split(stop)[0] for text in plain]
    assert wanted[0] != plain[0]
    assert model.generate(texts, stop=[stop]) == wanted
    assert all(stop not in text for text in model.generate(texts, stop=[stop], beams=3))


@pytest.mark.parametrize("size", [1, 3, 32])
def test_batches_change_nothing(runtime: Exported, held_out: Texts, size: int) -> None:
    """Whatever is computed together, outputs come in the order of the texts."""
    for kind in ("marian", "qwen3"):
        model, texts = runtime(kind), [*held_out(kind)[::4], "a", "abcd"]
        assert model.generate(texts, batch_size=size) == [model.generate([text])[0] for text in texts]


def test_chats_are_laid_out_as_transformers_lays_them_out(trained: Trained, runtime: Exported) -> None:
    """The template's prompt is transformers', and the answer continues it."""
    from transformers import AutoTokenizer

    messages = [{"role": "user", "content": "abc"}, {"role": "user", "content": "def"}]
    tokenizer: Any = AutoTokenizer.from_pretrained(trained("qwen3"))
    wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    model = runtime("qwen3")
    assert model.chat_prompt(messages) == wanted
    assert model.chat(messages, max_new_tokens=5) == model.generate([wanted], max_new_tokens=5)[0]
    with pytest.raises(ValueError, match="no chat template"):
        runtime("gpt2").chat(messages)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"beams": 0}, "beams must be at least 1"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": 1.0, "top_k": -1}, "top_k must be 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p must be above 0"),
        ({"temperature": 1.0, "beams": 2}, "one of both"),
        ({"top_k": 5}, "set a temperature"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_wrong_settings_say_what_is_allowed(runtime: Exported, wrong: dict[str, Any], said: str) -> None:
    """A ValueError before anything is computed."""
    with pytest.raises(ValueError, match=said):
        runtime("marian").generate(["abc"], **wrong)


PROBE = """
import importlib.util, json, os, sys, time
began = time.perf_counter()
from distill_deploy import load_runtime
runtime = load_runtime(sys.argv[1])
if hasattr(runtime, "stream"):
    first = next(runtime.stream("abcdef"))
else:
    first = runtime.complete(["ab[MASK]def"])[0]
seconds = time.perf_counter() - began
absent = all(importlib.util.find_spec(name) is None for name in ("torch", "transformers"))
status = "/proc/self/status"  # ru_maxrss counts the process that started this one
lines = open(status).read().splitlines() if os.path.exists(status) else []
peak = next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
size = sum(
    os.lstat(os.path.join(root, name)).st_size
    for path in sys.path if path.endswith("site-packages")
    for root, _, names in os.walk(path) for name in names
)
print(json.dumps({"first": first, "seconds": seconds, "absent": absent, "peak": peak, "size": size}))
"""


@pytest.mark.parametrize(
    ("extra", "kind", "size_mb"),
    [
        ("ctranslate2", "marian", 260),
        ("onnx", "bert", 190),
        pytest.param("openvino", "llama", 305, marks=pytest.mark.slow),  # 184 of them openvino's own
    ],
)
def test_the_wheel_runs_with_one_extra_and_without_torch(
    exported: Callable[..., Path], tmp_path: Path, extra: str, kind: str, size_mb: int
) -> None:
    """In a fresh environment: no torch, installed size and peak memory within bounds, and an answer."""
    uv = shutil.which("uv")
    assert uv is not None, "this test installs the wheel through uv: python -m pip install uv"
    spec = importlib.util.find_spec("distill_deploy")
    assert spec is not None
    assert spec.origin is not None
    project = Path(spec.origin).parents[2]
    if not (project / "pyproject.toml").exists():
        project = Path(__file__).parents[1]  # tested as a wheel: built again beside its tests
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = tmp_path / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    subprocess.run([uv, "build", "-q", "--wheel", str(project), "-o", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(tmp_path / "env")], check=True)
    install = [uv, "pip", "install", "-q", "-p", str(python), f"{wheel}[{extra}]"]
    subprocess.run(install, check=True, env=environment)
    made = exported(kind, openvino=extra == "openvino")
    found = subprocess.run(
        [str(python), "-c", PROBE, str(made)], capture_output=True, text=True, check=False,
        env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    facts = json.loads(found.stdout)
    assert facts["absent"]
    assert facts["first"]
    assert facts["size"] <= size_mb * 1e6
    model = sum(path.stat().st_size for path in made.iterdir())
    assert facts["peak"] <= model + 150e6
