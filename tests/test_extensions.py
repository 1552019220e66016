"""A package outside this repository adds a metric, a divergence, an exporter and a kind of stage.

The models are M2M100, as NLLB is: every kind of stage meets one without decoder inputs of its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

EXTENSION = Path(__file__).parent / "extension"
MODEL = 'config = { model_type = "m2m_100", d_model = %d, encoder_layers = 1, decoder_layers = 1, encoder_attention_heads = 2, decoder_attention_heads = 2, encoder_ffn_dim = 32, decoder_ffn_dim = 32, max_position_embeddings = 32 }'  # noqa: E501
RUN_FILE = f"""
[run]
name = "extended"
[data]
train = "train.jsonl"
test = "test.jsonl"
[models.big]
tokenizer = "tokenizer"
{MODEL % 32}
[models.small]
tokenizer = "tokenizer"
{MODEL % 16}
[hardware]
parallel_stages = 1
[stages.teacher]
kind = "finetune"
model = "big"
train = {{ steps = 60, learning_rate = 5e-3 }}
[stages.copied]
kind = "copy"
model = "teacher"
[stages.labels]
kind = "pseudo_label"
model = "copied"
data = "test"
max_new_tokens = 8
[stages.cached]
kind = "cache_teacher"
model = "copied"
data = "train"
[stages.student]
kind = "distill"
model = "small"
teacher = "cached"
train = {{ steps = 3 }}
objective = {{ divergence = "hellinger" }}
accept_worse_teacher = true
[stages.scores]
kind = "evaluate"
systems = ["copied", "student"]
metrics = ["length_ratio"]
compare = [["student", "copied"]]
max_new_tokens = 8
[stages.edge]
kind = "export"
model = "student"
format = "annotated"
precision = "fp32"
max_new_tokens = 8
[stages.report]
kind = "report"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the package's built wheel is installed."""
    folder = tmp_path_factory.mktemp("extension")
    build = ["uv", "build", "--quiet", "--wheel", str(EXTENSION), "--out-dir", str(folder / "dist")]
    subprocess.run(build, check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    site = folder / "site"
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    return site


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Words spelled in capitals, a tokenizer, and the run file."""
    from distill_datakit import train_tokenizer

    draw = random.Random(3)
    words = ["".join(draw.choices("abcd", k=draw.randint(2, 5))) for _ in range(80)]
    rows = [{"source": word, "target": " ".join(word.upper())} for word in words]
    for name, part in (("train", rows[:60]), ("test", rows[60:])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    tokenizer = train_tokenizer(words, kind="symbols", targets=[row["target"] for row in rows])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "extended.toml").write_text(RUN_FILE, encoding="utf-8")
    return tmp_path


def command(name: str, *arguments: str, cwd: Path, site: Path | None) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands, with the package installed or without."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    return subprocess.run(
        [str(Path(sys.executable).with_name(name)), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_file_uses_what_an_installed_package_adds(installed: Path, workplace: Path) -> None:
    """Planned, run as far as the cache, resumed to its end, reported, and its export run."""
    plan = command("distill-train", "plan", "extended.toml", cwd=workplace, site=installed)
    assert plan.returncode == 0, plan.stderr
    assert "copied (copy)" in plan.stdout
    begun = command("distill-train", "cache", "extended.toml", cwd=workplace, site=installed)
    assert begun.returncode == 0, begun.stderr
    (partial,) = workplace.glob("runs/*.partial")
    done = command("distill-train", "resume", str(partial), cwd=workplace, site=installed)
    assert done.returncode == 0, done.stderr
    (folder,) = workplace.glob("runs/extended-*")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["stages"]["copied"] == {"kind": "copy", "figures": {"model": "teacher"}}
    teacher, copied = (folder / "models" / name / "model.safetensors" for name in ("teacher", "copied"))
    assert teacher.read_bytes() == copied.read_bytes()
    score = report["systems"]["student"]["metrics"]["length_ratio"]
    assert score["unit"] == "ratio"
    assert score["interval"][0] <= score["value"] <= score["interval"][1]
    assert report["comparisons"]["student_vs_copied"]["length_ratio"]["first"] == "student"
    assert 'divergence = "hellinger"' in report["run_file"]
    assert report["exports"]["edge"]["format"] == "annotated"
    assert (folder / "exports" / "edge" / "NOTE.txt").read_text(encoding="utf-8") == "made in fp32\n"
    shown = command("distill-train", "report", str(folder), cwd=workplace, site=installed)
    assert shown.returncode == 0, shown.stderr
    assert "length_ratio" in shown.stdout
    answered = command(
        "distill-edge", "run", str(folder / "exports" / "edge"), "abc", cwd=workplace, site=installed
    )
    assert answered.returncode == 0, answered.stderr


def test_without_the_package_each_of_its_names_is_refused(workplace: Path) -> None:
    """Kind, divergence, metric and format, one after the other, before anything runs."""
    file = workplace / "extended.toml"
    for wrong, right in (
        ('kind = "copy"\nmodel = "teacher"', 'kind = "finetune"\nmodel = "teacher"'),
        ('divergence = "hellinger"', 'divergence = "forward_kl"'),
        ('metrics = ["length_ratio"]', 'metrics = ["per"]'),
        ('format = "annotated"', 'format = "ctranslate2"'),
    ):
        done = command("distill-train", "plan", file.name, cwd=workplace, site=None)
        assert done.returncode == 2, done.stdout
        assert wrong.split('"')[1] in done.stderr
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(wrong, right), encoding="utf-8")
