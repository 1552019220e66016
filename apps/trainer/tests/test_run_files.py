"""Run files: read, refused with the nearest right spelling, overridden, and written again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from distill_app_trainer import RunFileError, check_run, read_run_file, to_toml
from distill_app_trainer.cli import main

Edit = Callable[[str, str], None]

# What is changed in tiny.toml, and what the one line has to hold.
MISTAKES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a misspelt setting": ("learning_rate", "learnig_rate", ("learnig_rate", "learning_rate")),
    "a misspelt stage key": (
        'teacher = "stored"',
        'techer = "stored"',
        ("'stages.student.techer'", "'teacher'"),
    ),
    "a misspelt run key": ('name = "tiny"', 'name = "tiny"\nsed = 3', ("'run.sed'", "'seed'")),
    "a misspelt section": ("[models.big]\n", "[modles.x]\na = 1\n[models.big]\n", ("'modles'", "'models'")),
    "a misspelt limit": ("max_source_length", "max_source_lenght", ("data.limits", "'max_source_length'")),
    "an unknown kind": ('kind = "distill"', 'kind = "distil"', ("stages.student.kind", "'distill'")),
    "a missing kind": ('kind = "distill"\n', "", ("[stages.student] needs a kind",)),
    "a missing key": ('teacher = "stored"\n', "", ("[stages.student]", "'teacher'")),
    "a wrong type": ("steps = 12", 'steps = "many"', ("stages.teacher.train.steps", "'many'")),
    "a divergence out of range": ("weight = 0.3", "weight = 3.0", ("weight = 3.0", "0 to 1")),
    "an unknown precision": ('"fp32"', '"fp23"', ("precision", "'fp32'")),
    "a missing file": ("train.jsonl", "trian.jsonl", ("trian.jsonl", "'train.jsonl'")),
    "a missing column": (
        'train = "train.jsonl"',
        'train = { path = "train.jsonl", columns = { source = "sorce" } }',
        ("'sorce'", "'source'", "target"),
    ),
    "data without the columns": (
        'data = "train"',
        'data = "spellings"',
        ("data.spellings", "source and target"),
    ),
    "an unknown metric": ('"exact_match"]', '"exact_mach"]', ("exact_mach", "'exact_match'")),
    "a tokenizer that is none": ('"tokenizer"', '"tokeniser"', ("tokeniser", "'tokenizer'")),
    "a folder that is no model": (
        'tokenizer = "big"\n[models.small.config]',
        'path = "tokenizer"\n[models.unused]\ntokenizer = "big"\n[models.unused.config]',
        ("models.small.path", "is no model", "config.json"),
    ),
    "an unknown model": ('model = "small"', 'model = "smal"', ("stages.student.model", "'small'")),
    "a later stage": (
        'model = "teacher"\ndata',
        'model = "twin"\ndata',
        ("stages.labels.model", "order of the file"),
    ),
    "unknown data": ('["train", "labels"]', '["train", "label"]', ("'label'", "'labels'")),
    "a system that is not compared": ('["student", "twin"],', '["student", "twins"],', ("'twins'", "'twin'")),
    "a fresh model as teacher": ('teacher = "stored"', 'teacher = "big"', ("fresh model",)),
    "another task": ('name = "tiny"', 'name = "tiny"\ntask = "causal"', ("causal", "models.big", "seq2seq")),
    "an adapter on nothing": ('tokenizer = "big"', 'tokenizer = "big"\nadapter = "lora"', ("lora", "fresh")),
    "no TOML": ('name = "tiny"', 'name = "tiny', ("is no TOML",)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_in_one_line_with_what_is_right(mistake: str, workplace: Path, edit: Edit) -> None:
    """What was found, and the nearest right spelling or what is allowed."""
    old, new, expected = MISTAKES[mistake]
    edit(old, new)
    with pytest.raises(RunFileError) as caught:
        check_run(read_run_file(Path("tiny.toml")))
    message = str(caught.value)
    for part in expected:
        assert part in message
    assert "\n" not in message
    assert not (workplace / "runs").exists()


def test_a_right_run_file_is_accepted_and_its_task_read_from_the_models(workplace: Path) -> None:
    """``task = "auto"`` takes the task of the models."""
    assert check_run(read_run_file(Path("tiny.toml"))) == "seq2seq"


def test_the_resolved_run_file_is_a_run_file_and_means_the_same(workplace: Path, tmp_path: Path) -> None:
    """What is written beside the results can be run from anywhere."""
    config = read_run_file(Path("tiny.toml"))
    written = tmp_path / "elsewhere.toml"
    written.write_text(to_toml(config), encoding="utf-8")
    assert read_run_file(written) == config


def test_set_reaches_any_value(workplace: Path) -> None:
    """Values are read as TOML, and as text where they are none."""
    config = read_run_file(
        Path("tiny.toml"),
        ["stages.student.train.learning_rate=1e-3", "run.name=other", "run.seed=7", "data.extra=test.jsonl"],
    )
    stage = config.stages["student"]
    assert stage.kind == "distill"
    assert stage.train.learning_rate == 1e-3
    assert (config.run.name, config.run.seed) == ("other", 7)
    assert config.data["extra"].path.endswith("test.jsonl")


@pytest.mark.parametrize(
    "override", ["run.seed", "=3", "run.name.deeper=1", "stages.student.train.lerning_rate=1"]
)
def test_set_that_means_nothing_is_refused(override: str, workplace: Path) -> None:
    """A missing value, a missing key, a table where there is a value, an unknown key."""
    with pytest.raises(RunFileError):
        read_run_file(Path("tiny.toml"), [override])


def test_a_part_that_would_be_empty_is_refused_with_the_setting_that_helps(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few rows by their hash leave a part empty; exact counts do not."""
    lines = (workplace / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("few.jsonl").write_text("".join(lines[:8]), encoding="utf-8")
    Path("few.toml").write_text(
        """
[run]
name = "few"
[data]
train = "few.jsonl"
[models.big]
tokenizer = "tokenizer"
[models.big.config]
model_type = "marian"
d_model = 16
[stages.trained]
kind = "finetune"
model = "big"
""",
        encoding="utf-8",
    )
    assert main(["plan", "few.toml"]) == 2
    assert "Set data.split.exact = true" in capsys.readouterr().err
    assert main(["plan", "few.toml", "--set", "data.split.exact=true"]) == 0
    assert "validation 1 rows, test 1 rows" in capsys.readouterr().out


def test_train_alone_brings_validation_and_test(workplace: Path, edit: Edit) -> None:
    """One file is split, and its parts have names."""
    edit('validation = "validation.jsonl"\ntest = "test.jsonl"\n', "")
    assert check_run(read_run_file(Path("tiny.toml"))) == "seq2seq"
