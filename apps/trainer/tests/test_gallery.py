"""A gallery of real mistakes: each documented error prints a fix, and the test applies it as printed."""

import io
import json
import re
import shlex
import shutil
import subprocess
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from distill_app_trainer.cli import main
from mistakes import MISTAKES, Mistake

LEAST = 0.97  # of the fixes have to do what they say
SECONDS = 1.0
EDIT = re.compile(r"(?P<file>[^:]+):(?P<first>\d+)(?:-(?P<last>\d+))?: (?P<what>.+)")
CONFIGS: dict[str, dict[str, object]] = {
    "seq2seq": {"model_type": "marian", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
                "vocab_size": 12},
    "causal": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 16, "n_layer": 1,
               "n_head": 2, "vocab_size": 12},
    "masked": {"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 16,
               "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 12},
}  # fmt: skip


@pytest.fixture
def place(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workplace with a saved model of every task, another tokenizer, and a hub's cache."""
    import huggingface_hub.constants as constants

    from distill_datakit import train_tokenizer

    for name, config in CONFIGS.items():
        shutil.copytree(workplace / "tokenizer", workplace / "saved" / name)
        (workplace / "saved" / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    train_tokenizer(["xyz"], kind="symbols", targets=["X Y Z"]).save_pretrained(workplace / "letters")
    cached = workplace / "hub" / "models--tiny--speller"
    shutil.copytree(workplace / "saved" / "seq2seq", cached / "snapshots" / "1")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(workplace / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return workplace


def typed(command: str) -> tuple[int, str, float]:
    """Exit code, what was said, and seconds of CPU."""
    said = io.StringIO()
    before = time.process_time()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        code = main(shlex.split(command))
    return code, said.getvalue(), time.process_time() - before


def apply(fix: str) -> int:
    """Do what a fix says, as it stands there; the exit code where it is a command."""
    if fix.startswith("distill-train "):
        return typed(fix.removeprefix("distill-train "))[0]
    found = EDIT.fullmatch(fix)
    if found is None:
        return subprocess.run(["bash", "-euc", fix], check=False, capture_output=True).returncode
    file, what = Path(found["file"]), found["what"]
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    first, last = int(found["first"]) - 1, int(found["last"] or found["first"])
    taken = lines[first:last]
    lines[first:last] = []
    if what.startswith("move above "):
        above = int(what.removeprefix("move above ")) - 1
        lines[above:above] = taken
    elif what != "delete":
        old, _, new = what.partition(" -> ")
        assert taken[0].count(old), fix
        lines.insert(first, taken[0].replace(old, "" if new == "(nothing)" else new, 1))
    file.write_text("".join(lines), encoding="utf-8")
    return 0


def make(mistake: Mistake, place: Path) -> None:
    """Make a mistake in a good workplace."""
    file = place / "tiny.toml"
    for old, new in mistake.edits:
        text = file.read_text(encoding="utf-8")
        assert old in text, old
        file.write_text(text.replace(old, new, 1) if old else text + new, encoding="utf-8")
    if mistake.work is not None:
        mistake.work(place)


def problem(mistake: Mistake) -> tuple[str | None, str | None]:
    """What is wrong with an error, and with its fix."""
    code, said, seconds = typed(mistake.command)
    lines = said.splitlines()
    if code != mistake.code or "Traceback" in said or not lines or not lines[0].startswith("error: "):
        return f"exit code {code}: {said}", None
    missing = [part for part in mistake.said if part not in said]
    if missing or len(lines) > 2 or seconds > SECONDS:
        return f"{missing} is not in {said!r} after {seconds:.2f} s", None
    if len(lines) < 2:
        return None, f"no fix: {said}"
    fix = lines[1].removeprefix("fix:   ")
    if not mistake.offline:
        return None, f"needs a network: {fix}"
    code = apply(fix)
    if code == 0 and mistake.command.startswith("plan") and not fix.startswith("distill-train"):
        code, more, _ = typed(mistake.command)
        said += more
    return None, None if code == 0 else f"exit code {code} after {fix!r}: {said}"


def test_at_least_97_of_100_mistakes_are_corrected_by_the_fix_that_is_printed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a hundred; every one in a line with what was found and what is right, within a second."""
    assert main(["plan", "tiny.toml"]) == 0
    wrong, uncorrected = {}, {}
    for number, (name, mistake) in enumerate(MISTAKES.items()):
        work = tmp_path / str(number)
        shutil.copytree(place, work, ignore=shutil.ignore_patterns("hub"))
        monkeypatch.chdir(work)
        make(mistake, work)
        said, fix = problem(mistake)
        if said is not None:
            wrong[name] = said
        if said is not None or fix is not None:
            uncorrected[name] = fix
    share = 1 - len(uncorrected) / len(MISTAKES)
    listed = "\n".join(f"  {name}: {text}" for name, text in [*wrong.items(), *uncorrected.items()])
    print(
        f"{len(MISTAKES)} mistakes, {100 * share:.1f} % corrected by the printed fix; the others:\n{listed}"
    )
    assert not wrong, listed
    assert len(MISTAKES) >= 100
    assert share >= LEAST, listed
