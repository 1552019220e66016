"""The commands beside ``run``: new, data, schema, plan --measure, and models of the hub."""

import json
from pathlib import Path

import pytest

from distill_app_trainer import check_run, read_run_file
from distill_app_trainer.cli import main
from distill_app_trainer.runfile.kinds import STAGE_KINDS


@pytest.fixture
def model(workplace: Path) -> Path:
    """A tiny untrained model of the kind that ``tiny.toml`` trains."""
    import torch
    from transformers import AutoTokenizer, MarianConfig, MarianMTModel

    tokenizer = AutoTokenizer.from_pretrained(workplace / "tokenizer")
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=32,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    folder = workplace / "model"
    MarianMTModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("teacher", [(), ("--teacher", "model")])
def test_a_new_run_file_says_what_would_be_done_anyway_and_can_be_run(
    teacher: tuple[str, ...], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Comments give the machine's own choices with their reasons; a second one is not written over it."""
    arguments = ["new", "--from", model.name, "--data", "train.jsonl", *teacher, "--out", "mine.toml"]
    assert main(arguments) == 0
    assert "Next:   distill-train plan mine.toml" in capsys.readouterr().out
    text = Path("mine.toml").read_text(encoding="utf-8")
    config = read_run_file(Path("mine.toml"))
    assert check_run(config) == "seq2seq"
    assert config.stages["trained"].kind == ("distill" if teacher else "finetune")
    chosen = [line for line in text.splitlines() if line.startswith("# compute_dtype = ")]
    assert len(chosen) == 1
    Path("mine.toml").write_text(text.replace("# threads = ", "threads = "), encoding="utf-8")
    assert "threads" in read_run_file(Path("mine.toml")).hardware

    assert main(arguments) == 2
    assert "mine.toml exists and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "modle", "--data", "train.jsonl"], "modle"),
        (["--from", "tokenizer", "--data", "train.jsonl"], "config.json"),
        (["--from", "model", "--data", "trian.jsonl"], "Did you mean 'train.jsonl'?"),
        (["--from", "model", "--data", "spellings.txt"], "source and target"),
        (["--from", "model", "--data", "train.jsonl", "--adapter", "lorra"], "'lora'"),
        (["--from", "model", "--data", "train.jsonl", "--out", "nowhere/run.toml"], "Make it first"),
    ],
)
def test_a_run_file_that_could_not_be_run_is_not_written(
    arguments: list[str], said: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line, one for the fix, exit code 2, no file."""
    assert main(["new", *arguments]) == 2
    error, *fix = capsys.readouterr().err.strip().splitlines()
    assert said in error
    assert all(line.startswith("fix:   ") for line in fix)
    assert not list(model.parent.rglob("run.toml"))


def test_data_is_reported_on_as_the_model_would_read_it(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good data is fine; an unknown character and a row without target are named by row and field."""
    assert main(["data", "train.jsonl", "--model", "model", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["parts"][0]["rows"] == 48

    rows = [
        '{"source": "ab", "target": "A B"}',
        '{"source": "a?", "target": "A"}',
        '{"source": "b"}',
    ]
    Path("bad.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert main(["data", "bad.jsonl", "--model", "model"]) == 4
    said = capsys.readouterr().out
    assert "bad.jsonl" in said
    assert "row 3" in said

    assert main(["data", "train.jsnol", "--model", "model"]) == 2
    assert "Did you mean 'train.jsonl'?" in capsys.readouterr().err
    assert main(["data", "train.jsonl", "--model", "model", "--task", "causl"]) == 2
    assert "Did you mean 'causal'?" in capsys.readouterr().err


def test_the_schema_knows_every_kind_of_stage_and_refuses_other_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What an editor needs to complete a run file and to mark what is wrong in it."""
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"run", "data", "models", "hardware", "stages"} == schema["properties"].keys()
    kinds = schema["properties"]["stages"]["additionalProperties"]["discriminator"]["mapping"]
    assert kinds.keys() == STAGE_KINDS.keys()
    assert all(not schema["$defs"][ref.rsplit("/", 1)[-1]]["additionalProperties"] for ref in kinds.values())
    assert schema["properties"]["data"]["properties"].keys() == {"limits", "split"}


def test_plan_measures_the_trainings_when_asked(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real steps of each stage that can be timed before the run; nothing is written."""
    assert main(["plan", "tiny.toml", "--measure"]) == 0
    said = capsys.readouterr().out
    for system, steps in (("teacher", 12), ("student", 4), ("baseline", 3), ("baseline_seed2", 3)):
        assert f"Time     {system}: {steps} steps of " in said
    assert "These trainings take" in said
    assert not (workplace / "runs").exists()


def test_a_name_on_the_hub_is_found_in_its_cache_and_missed_in_one_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``organisation/name`` where there is no such folder; offline, what was fetched before is used."""
    import huggingface_hub.constants as constants

    cache = model.parent / "hub"
    snapshot = cache / "models--tiny--speller" / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    for file in model.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    refs = cache / "models--tiny--speller" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123abc", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert main(["new", "--from", "tiny/speller", "--data", "train.jsonl", "--out", "hub.toml"]) == 0
    short = ["--set", "stages.trained.train.steps=2", "--set", "stages.trained.train={steps=2}"]
    assert main(["run", "hub.toml", "--json", *short]) == 0
    capsys.readouterr()

    assert main(["new", "--from", "tiny/other", "--data", "train.jsonl", "--out", "other.toml"]) == 2
    assert "hf download tiny/other" in capsys.readouterr().err
