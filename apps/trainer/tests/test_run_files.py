"""Run files: read, refused with the nearest right spelling, overridden, and written again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_app_trainer import RunFileError, check_run, read_run_file, to_toml
from distill_app_trainer.cli import main
from distill_app_trainer.errors import SetKey

ReplaceText = Callable[[str, str], None]


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
    training = stage.training()
    assert stage.kind == "distill"
    assert training is not None
    assert training.train.learning_rate == 1e-3
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
    assert "data.split.exact=true" in capsys.readouterr().err
    assert main(["plan", "few.toml", "--set", "data.split.exact=true"]) == 0
    assert "validation 1 rows, test 1 rows" in capsys.readouterr().out


def test_train_alone_brings_validation_and_test(workplace: Path, edit: ReplaceText) -> None:
    """One file is split, and its parts have names."""
    edit('validation = "validation.jsonl"\ntest = "test.jsonl"\n', "")
    assert check_run(read_run_file(Path("tiny.toml"))) == "seq2seq"


def test_a_model_that_no_stage_uses_is_known_by_the_names_in_stages_not_by_their_words(
    workplace: Path,
) -> None:
    """A model called ``data`` is not used because a stage has the key ``data``: the fix takes it out."""
    folder = workplace / "saved"
    folder.mkdir()
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
    }
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 12}), encoding="utf-8")
    file = Path("tiny.toml")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[hardware]", '[models.data]\npath = "saved"\n[hardware]'), encoding="utf-8")
    with pytest.raises(RunFileError, match="same task") as caught:
        check_run(read_run_file(file))
    assert caught.value.fix == SetKey(("models", "data"), None)
