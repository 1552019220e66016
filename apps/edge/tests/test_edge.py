"""The edge app runs exports, and nothing it depends on is torch or transformers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest

from distill_app_edge.cli import main

COMMAND = [sys.executable, "-m", "distill_app_edge", "run"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Marian in CTranslate2's format, made without training."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from distill_deploy import export, save

    words = ["a", "b", "c", "AA", "BB", "CC", "</s>", "<unk>", "<pad>"]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **named)  # type: ignore[no-untyped-call]  # untyped upstream
    torch.manual_seed(0)
    config = transformers.MarianConfig(
        vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, pad_token_id=8, eos_token_id=6,
        decoder_start_token_id=8, init_std=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("edge")
    save(transformers.MarianMTModel(config), tokenizer, folder / "model")
    return export(folder / "model", folder / "export", precision="fp32", max_new_tokens=8).path


def test_each_text_gets_a_line_within_a_second(exported: Path) -> None:
    """One line of output for each text; a start to end of about a second."""
    began = time.perf_counter()
    done = subprocess.run([*COMMAND, str(exported), "a b", "c"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - began < 10  # a busy machine; idle it is under 1
    assert done.stdout.count("\n") == 2
    assert done.stderr == ""


def test_json_gives_an_object_for_each_text(exported: Path) -> None:
    """--json prints input and output, beams allowed."""
    command = [*COMMAND, str(exported), "a b", "--json", "--beams", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["input"] == "a b"


def test_neither_torch_nor_transformers_is_imported(exported: Path) -> None:
    """A whole run leaves both out of sys.modules."""
    code = (
        "import sys; from distill_app_edge.cli import main; code = main(['run', sys.argv[1], 'a']);"
        "sys.exit(code or bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(exported)], capture_output=True, check=True)


def test_exit_codes_tell_what_went_wrong(exported: Path, tmp_path: Path) -> None:
    """A missing folder, an empty one and wrong usage are 2, a changed export is 1, each with one line."""
    broken = tmp_path / "broken"
    shutil.copytree(exported, broken)
    (broken / "tokenizer.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for name, code in (("none", 2), ("empty", 2), ("broken", 1)):
        arguments = [str(tmp_path / name), "a"]
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert done.stdout == ""
        assert done.stderr.startswith("distill-edge: ")
        assert done.stderr.count("\n") == 1
    wrong = subprocess.run([*COMMAND, str(exported), "a", "--beams", "0"], capture_output=True, check=False)
    assert wrong.returncode == 2


@pytest.mark.parametrize("arguments", [["--version"], ["run", "--version"]])
def test_the_version_is_printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout, with exit code 0, before and after the command; ``python -m`` says the same."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"distill-edge {version('distill-app-edge')}\n", "")
    module = [sys.executable, "-m", "distill_app_edge", *arguments]
    assert subprocess.run(module, capture_output=True, text=True, check=True).stdout == said.out


def test_the_dependency_closure_holds_no_torch_and_no_transformers() -> None:
    """Walk what is required, extras and markers evaluated, from distill-app-edge down."""
    from packaging.requirements import Requirement

    seen: set[tuple[str, str]] = set()
    queue: list[tuple[str, str]] = [("distill-app-edge", "")]
    while queue:
        name, extra = queue.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        for line in lines:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                plain = re.sub(r"[-_.]+", "-", wanted.name).lower()
                queue += [(plain, chosen) for chosen in ("", *wanted.extras)]
    names = {name for name, _ in seen}
    assert {"ctranslate2", "onnxruntime", "tokenizers", "distill-hwdetect"} <= names
    assert not {"torch", "transformers"} & names
