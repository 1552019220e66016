"""A whole run on tiny models made on the spot, for each family: train, distil, evaluate, export, use."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def command(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands as a user would, without the hub."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    program = Path(sys.executable).with_name(name)
    return subprocess.run(
        [str(program), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """JSONL, one row a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def seq2seq_rows() -> list[dict[str, str]]:
    """Replace each letter by its capital: learnt in a few hundred steps, and never by copying the input."""
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(3, 7))) for _ in range(600)]
    return [{"source": word, "target": " ".join(letter.upper() for letter in word)} for word in words]


def causal_rows() -> list[dict[str, str]]:
    """Count on from any number to any other."""
    draw = random.Random(7)
    rows = []
    for _ in range(600):
        first = draw.randint(0, len(NUMBERS) - 5)
        rows.append(
            {
                "prompt": f"count {NUMBERS[first]}",
                "completion": " " + " ".join(NUMBERS[first + 1 : first + 5]),
            }
        )
    return rows


def masked_rows() -> list[dict[str, str]]:
    """Runs of counting words, so that a mask is filled from its neighbours."""
    draw = random.Random(7)
    starts = [draw.randint(0, len(NUMBERS) - 6) for _ in range(600)]
    return [{"text": " ".join(NUMBERS[start : start + 6])} for start in starts]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What differs between the families: data, tokenizer, model and score."""

    rows: Callable[[], list[dict[str, str]]]
    tokenizer: Literal["symbols", "bpe", "wordpiece"]
    config: str
    size: str
    metrics: tuple[str, ...]
    question: str
    answer: str


FAMILIES = {
    "seq2seq": Family(
        rows=seq2seq_rows,
        tokenizer="symbols",
        config="""model_type = "marian", encoder_layers = 1, decoder_layers = 1, encoder_attention_heads = 2,
            decoder_attention_heads = 2, encoder_ffn_dim = 64, decoder_ffn_dim = 64, init_std = 0.15,
            max_position_embeddings = 32, scale_embedding = true, dropout = 0.0""",
        size="d_model",
        metrics=("exact_match", "per"),
        question="badge",
        answer="B A D G E",
    ),
    "causal": Family(
        rows=causal_rows,
        tokenizer="bpe",
        config="""model_type = "gpt2", n_layer = 2, n_head = 2, n_positions = 64, resid_pdrop = 0.0,
            embd_pdrop = 0.0, attn_pdrop = 0.0, initializer_range = 0.1""",
        size="n_embd",
        metrics=("exact_match",),
        question="count two",
        answer="three four five six",
    ),
    "masked": Family(
        rows=masked_rows,
        tokenizer="wordpiece",
        config="""model_type = "bert", num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 64,
            max_position_embeddings = 64, hidden_dropout_prob = 0.0, attention_probs_dropout_prob = 0.0,
            initializer_range = 0.1""",
        size="hidden_size",
        metrics=("accuracy", "nll"),
        question="one two [MASK] four five six",
        answer="three",
    ),
}

RUN_FILE = """
[run]
name = "tiny"
task = "{task}"
[data]
train = "train.jsonl"
validation = "validation.jsonl"
test = "test.jsonl"
[data.limits]
max_source_length = 32
max_target_length = 32
[hardware]
threads = 1
[models.big]
tokenizer = "tokenizer"
config = {{ {config}, {size} = 64 }}
[models.small]
tokenizer = "tokenizer"
config = {{ {config}, {size} = 32 }}
[stages.teacher]
kind = "finetune"
model = "big"
data = "train"
[stages.teacher.train]
steps = 250
batch_size = 32
learning_rate = 3e-3
[stages.student]
kind = "distill"
model = "small"
teacher = "teacher"
data = "train"
[stages.student.train]
steps = 400
batch_size = 32
learning_rate = 4e-3
[stages.scores]
kind = "evaluate"
systems = ["teacher", "student"]
data = "test"
metrics = {metrics}
compare = [["student", "teacher"]]
max_new_tokens = 16
[stages.edge]
kind = "export"
model = "student"
precision = "fp32"
data = "test"
metrics = {exported}
max_new_tokens = 16
[stages.report]
kind = "report"
"""


def lay_out(folder: Path, task: str) -> Family:
    """Write data, tokenizer and run file of one family."""
    from distill_datakit import train_tokenizer

    family = FAMILIES[task]
    rows = family.rows()
    write_rows(folder / "train.jsonl", rows[:480])
    write_rows(folder / "validation.jsonl", rows[480:520])
    write_rows(folder / "test.jsonl", rows[520:])
    texts = [row.get("source") or row.get("text") or row["prompt"] + row["completion"] for row in rows]
    if family.tokenizer == "symbols":
        tokenizer = train_tokenizer(texts, kind="symbols", targets=[row["target"] for row in rows])
    else:
        tokenizer = train_tokenizer(texts, kind=family.tokenizer, size=300)
    tokenizer.save_pretrained(folder / "tokenizer")
    config = " ".join(family.config.split())
    run_file = RUN_FILE.format(
        task=task,
        config=config,
        size=family.size,
        metrics=json.dumps(family.metrics),
        exported=json.dumps(family.metrics[:1]),
    )
    (folder / "tiny.toml").write_text(run_file, encoding="utf-8")
    return family


@pytest.mark.parametrize("task", list(FAMILIES))
def test_a_run_file_takes_each_family_from_training_to_an_export_that_runs(task: str, tmp_path: Path) -> None:
    """A trained teacher, a distilled student, scores with intervals, a verified export, an answer."""
    family = lay_out(tmp_path, task)
    run = command("distill-train", "run", "tiny.toml", cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-4000:]

    report = json.loads(next(tmp_path.glob("runs/*/report.json")).read_text(encoding="utf-8"))
    for system in ("teacher", "student"):
        metric = report["systems"][system]["metrics"][family.metrics[0]]
        low, high = metric["interval"]
        assert low <= metric["value"] <= high
        assert metric["value"] > 50, f"{system} learnt too little to prove anything: {metric}"
    for metric in family.metrics:
        compared = report["comparisons"]["student_vs_teacher"][metric]
        assert compared["interval"][0] <= compared["difference"] <= compared["interval"][1]
    assert report["systems"]["student"]["parameters"] < report["systems"]["teacher"]["parameters"]

    certificate = next(tmp_path.glob("runs/*/exports/*/certificate.json"))
    assert json.loads(certificate.read_text(encoding="utf-8"))["verified"] is True
    answer = command("distill-edge", "run", certificate.parent, family.question, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert family.answer in answer.stdout


def test_a_misspelt_key_costs_a_second_and_leaves_nothing(tmp_path: Path) -> None:
    """Exit code 2, one line with the nearest correct spelling, and no run folder."""
    lay_out(tmp_path, "seq2seq")
    text = (tmp_path / "tiny.toml").read_text(encoding="utf-8").replace("learning_rate", "learnig_rate", 1)
    (tmp_path / "tiny.toml").write_text(text, encoding="utf-8")
    run = command("distill-train", "run", "tiny.toml", cwd=tmp_path)
    assert run.returncode == 2
    assert "learning_rate" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "runs").exists()
