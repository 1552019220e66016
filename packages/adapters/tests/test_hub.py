"""Names on the hub are recognised, read from the cache, and missed with a suggestion."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distill_adapters import (
    HubError,
    HubUnreachableError,
    fetch_description,
    fetch_model,
    is_hub_name,
)


@pytest.fixture(name="cache")
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model, ``tiny/speller``, and no network."""
    from huggingface_hub import constants

    root = tmp_path / "hub" / "models--tiny--speller"
    snapshot = root / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0123abc", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return snapshot


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("tiny/speller", True),
        ("gpt2", False),  # it may be a folder; load_model asks the hub where there is none
        ("a/b/c", False),
        ("./b", False),
        ("/a/b", False),
        ("here/b", False),
        (Path("tiny/speller"), False),
    ],
)
def test_a_name_on_the_hub_has_two_parts_and_no_folder(
    name: str | Path, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``a/b`` where a folder ``a`` exists is a path, from the working directory or from ``base``."""
    (tmp_path / "here").mkdir()
    assert is_hub_name(name, tmp_path) is known
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name) is known


def test_a_cached_model_is_found_without_a_network(cache: Path) -> None:
    """Its description and the whole of it; a folder stays what it is."""
    assert fetch_description("tiny/speller") == cache
    assert fetch_model("tiny/speller") == cache
    assert fetch_description(cache) == fetch_model(str(cache)) == cache


@pytest.mark.parametrize("fetch", [fetch_description, fetch_model])
def test_an_unreachable_model_comes_with_the_nearest_cached_name(fetch: object, cache: Path) -> None:
    """As data; without a similar name there is no suggestion."""
    assert callable(fetch)
    with pytest.raises(HubUnreachableError) as caught:
        fetch("tiny/spellr")
    error = caught.value
    assert (error.field, error.found, error.suggestion) == ("model", "tiny/spellr", "tiny/speller")
    with pytest.raises(HubUnreachableError) as caught:
        fetch("another/one")
    assert caught.value.suggestion is None


def test_what_the_hub_does_not_have_is_told_from_a_missing_network(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown name, and a model without a configuration, are HubError alone."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    def unknown(*_given: object, **_options: object) -> None:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)  # its constructor needs a response

    monkeypatch.setattr(HfApi, "model_info", unknown)
    with pytest.raises(HubError) as caught:
        fetch_description("tiny/spellr")
    assert type(caught.value) is HubError
    assert caught.value.suggestion == "tiny/speller"

    empty: Any = SimpleNamespace(siblings=[])
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: empty)
    with pytest.raises(HubError, match=r"has no config\.json") as caught:
        fetch_description("tiny/other")
    assert type(caught.value) is HubError


def test_names_bases_and_hub_load_no_torch() -> None:
    """They are asked before anything heavy is imported."""
    code = (
        "import sys\nfrom distill_adapters import adapter_base, fetch_model, is_hub_name\n"
        "fetch_model('.')\nprint([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
