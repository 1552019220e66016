"""What a folder holds is said before anything heavy is imported, with the folder that was meant."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill_adapters import (
    ModelLoadError,
    check_model_folder,
    nearest_paths,
    tokenizer_vocabulary,
    vocabulary_size,
)


def _write(folder: Path, **files: object) -> Path:
    """A folder with JSON files; ``None`` writes weights."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        if content is None:
            (folder / name).write_bytes(b"\0")
        else:
            (folder / f"{name}.json").write_text(
                content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
            )
    return folder


def _model(folder: Path) -> Path:
    return _write(folder, config={}, tokenizer={}, **{"model.safetensors": None})


@pytest.fixture(name="place")
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two whole models, ``runs/student`` and ``runs/teacher``, beside some that lack something."""
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    for name in ("student", "teacher"):
        _model(runs / name)
    _write(runs / "empty")
    _write(runs / "garbled", config="{", tokenizer={}, **{"model.safetensors": None})
    _write(runs / "listed", config=[], tokenizer={}, **{"model.safetensors": None})
    _write(runs / "weightless", config={}, tokenizer={})
    _write(runs / "pickled", config={}, tokenizer={}, **{"pytorch_model.bin": None})
    _write(runs / "wordless", config={}, **{"model.safetensors": None})
    _write(runs / "words", tokenizer={})
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "suggestion"),
    [
        ("runs/studnet", "runs/student"),
        ("rnus/teacher", "runs/teacher"),
        ("runs", "runs/student"),
        ("runs/teacher/config.json", "runs/teacher"),
        ("runs/empty", "runs/student"),
        ("runs/garbled", "runs/teacher"),
        ("runs/listed", "runs/student"),
        ("runs/weightless", "runs/teacher"),
        ("runs/pickled", "runs/teacher"),
        ("runs/wordless", "runs/student"),
    ],
)
def test_a_folder_that_lacks_something_is_refused_with_the_nearest_that_does_not(
    folder: str, suggestion: str, place: Path
) -> None:
    """Both whole models are listed; the one with the most similar path is suggested."""
    with pytest.raises(ModelLoadError, match=folder) as caught:
        check_model_folder(folder)
    error = caught.value
    assert (error.field, error.found) == ("folder", folder)
    assert error.suggestion in error.allowed
    assert set(error.allowed) <= {"runs/student", "runs/teacher"}
    assert error.suggestion == suggestion
    assert check_model_folder(suggestion).path == Path(suggestion)


def test_only_what_is_asked_for_is_needed(place: Path) -> None:
    """Of a model that is made from a description, or of a tokenizer alone."""
    assert check_model_folder("runs/weightless", needs=["config"]).base is None
    assert check_model_folder("runs/words", needs=["tokenizer"]).path == Path("runs/words")
    with pytest.raises(ModelLoadError) as caught:
        check_model_folder("runs/wordles", needs=["tokenizer"])
    assert caught.value.suggestion == "runs/words"


def test_suggestions_can_be_left_out(place: Path) -> None:
    """For a caller who adds those of its own."""
    with pytest.raises(ModelLoadError) as caught:
        check_model_folder("runs/studnet", suggest=False)
    assert (caught.value.allowed, caught.value.suggestion) == ((), None)


def test_an_adapter_needs_its_base(place: Path) -> None:
    """The tokenizer may be beside either; weights both need, and a base that is gone is an error."""
    adapter = _write(
        place / "adapter",
        adapter_config={"base_model_name_or_path": "runs/teacher"},
        **{"adapter_model.safetensors": None},
    )
    assert check_model_folder(adapter).base == Path("runs/teacher")
    for base in ("./gone", 5, "runs/pickled", "runs/garbled", "runs/words"):
        config = json.dumps({"base_model_name_or_path": base})
        (adapter / "adapter_config.json").write_text(config, encoding="utf-8")
        with pytest.raises(ModelLoadError) as caught:
            check_model_folder(adapter)
        assert caught.value.found == str(adapter)
    config = json.dumps({"base_model_name_or_path": "organisation/name"})
    (adapter / "adapter_config.json").write_text(config, encoding="utf-8")
    assert check_model_folder(adapter).base == "organisation/name"


def test_nothing_usable_nearby_is_no_suggestion(tmp_path: Path) -> None:
    """Nothing is looked for above the nearest folder that exists."""
    _model(tmp_path / "whole")
    (tmp_path / "below").mkdir()
    assert nearest_paths(tmp_path / "below" / "modl", lambda one: one.name == "whole") == ()
    with pytest.raises(ModelLoadError) as caught:
        check_model_folder(tmp_path / "below" / "modl")
    assert caught.value.suggestion is None


def test_the_vocabulary_of_a_saved_tokenizer_is_read_in_both_its_forms(tmp_path: Path) -> None:
    """Token to id, or a list of tokens with their scores; added tokens count too."""
    added = [{"content": "<pad>", "id": 4}]
    words = _write(
        tmp_path / "words", tokenizer={"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": added}
    )
    pieces = _write(tmp_path / "pieces", tokenizer={"model": {"vocab": [["a", -1.0], ["b", -2.0]]}})
    assert tokenizer_vocabulary(words) == {"a": 0, "b": 1, "<pad>": 4}
    assert tokenizer_vocabulary(pieces) == {"a": 0, "b": 1}
    assert (vocabulary_size(words), vocabulary_size(pieces)) == (5, 2)
    assert vocabulary_size(_write(tmp_path / "none", tokenizer={})) is None
    assert vocabulary_size(_write(tmp_path / "slow", vocab={"a": 0})) is None
    with pytest.raises(ModelLoadError):
        tokenizer_vocabulary(_write(tmp_path / "broken", tokenizer="{"))


def test_nothing_heavy_is_imported(place: Path) -> None:
    """Also where a suggestion is looked for."""
    code = (
        "import sys\n"
        "from distill_adapters import check_model_folder, vocabulary_size\n"
        "vocabulary_size('runs/student')\n"
        "try: check_model_folder('runs/studnet')\n"
        "except ValueError as error: assert error.suggestion\n"
        "assert not {'torch', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=place)
