"""An adapter's base is found where the adapter says, also after both were moved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_adapters import (
    AdapterConfig,
    LoadedModel,
    ModelLoadError,
    adapter_base,
    attach,
    load_model,
    save_model,
)


@pytest.fixture(name="adapter")
def _adapter(tmp_path: Path) -> Callable[[object], Path]:
    """``adapter(base)``: a folder whose adapter names a base."""

    def write(base: object) -> Path:
        folder = tmp_path / "models" / "adapter"
        folder.mkdir(parents=True, exist_ok=True)
        content = {"base_model_name_or_path": base}
        (folder / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return write


def test_a_relative_base_is_looked_up_as_it_was_written(
    adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``../base`` from the adapter's folder first, ``base`` from the working directory first."""
    here = tmp_path / "here" / "work"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    beside = tmp_path / "models" / "base"
    (tmp_path / "here" / "base").mkdir()
    assert adapter_base(adapter("../base")) == Path("../base")  # nothing beside the adapter
    beside.mkdir(parents=True)
    assert adapter_base(adapter("../base")) == beside
    assert adapter_base(adapter("../base"), "../base") == Path(
        "../base"
    )  # said by the caller, not the adapter
    (tmp_path / "models" / "adapter" / "inner").mkdir()
    assert adapter_base(adapter("inner")) == tmp_path / "models" / "adapter" / "inner"
    (here / "inner").mkdir()
    assert adapter_base(adapter("inner")) == Path("inner")


def test_a_base_on_the_hub_stays_a_name(adapter: Any) -> None:
    """Whether it is in the cache is not asked."""
    assert adapter_base(adapter("org/base")) == "org/base"
    assert adapter_base(adapter("base")) == "base"


def test_a_missing_base_is_refused_with_the_nearest_name(adapter: Any, tmp_path: Path) -> None:
    """An absolute path, and one that starts at the adapter."""
    (tmp_path / "models" / "student").mkdir(parents=True)
    for named in (str(tmp_path / "models" / "studnet"), "../studnet"):
        with pytest.raises(ModelLoadError, match="does not exist any more") as caught:
            adapter_base(adapter(named))
        assert (caught.value.field, caught.value.found) == ("base", named)
    with pytest.raises(ModelLoadError) as caught:
        adapter_base(adapter(str(tmp_path / "models" / "studnet")))
    assert caught.value.suggestion == str(tmp_path / "models" / "student")


@pytest.mark.parametrize("base", [None, "", 3])
def test_an_adapter_without_a_base_is_refused(base: object, adapter: Any) -> None:
    """Unless the caller gives one."""
    with pytest.raises(ModelLoadError, match="has no base_model_name_or_path"):
        adapter_base(adapter(base))
    assert adapter_base(adapter(base), "org/base") == "org/base"


def test_a_folder_that_is_not_an_adapter_is_refused(tmp_path: Path) -> None:
    """Without adapter_config.json, and with a damaged one."""
    for content in (None, "{"):
        if content is not None:
            (tmp_path / "adapter_config.json").write_text(content, encoding="utf-8")
        with pytest.raises(ModelLoadError, match="is not the folder of an adapter") as caught:
            adapter_base(tmp_path)
        assert caught.value.field == "folder"


def test_a_moved_run_folder_still_loads(
    make: Callable[..., LoadedModel], make_policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base and adapter in one folder refer to each other by a relative path, and again once saved again."""
    run, policy = tmp_path / "run.partial", make_policy("llama")
    save_model(make("llama"), run / "models" / "base")
    adapted = attach(load_model(run / "models" / "base", policy), AdapterConfig(rank=2, dropout=0.0))
    named = adapted.model.peft_config["default"].base_model_name_or_path
    save_model(adapted, run / "models" / "adapter", relative_within=run)
    save_model(adapted, tmp_path / "outside", relative_within=run)
    assert adapted.model.peft_config["default"].base_model_name_or_path == named  # as before saving

    run.rename(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")  # ../base does not lie here
    moved = load_model(tmp_path / "run" / "models" / "adapter", policy)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(moved.model(ids).logits, adapted.model(ids).logits)
    again = save_model(moved, tmp_path / "again")
    assert adapter_base(again) == tmp_path / "run" / "models" / "base"
    content = json.loads((tmp_path / "run/models/adapter/adapter_config.json").read_text(encoding="utf-8"))
    assert content["base_model_name_or_path"] == "../base"
    with pytest.raises(ModelLoadError):  # it lay outside the folder that moved
        adapter_base(tmp_path / "outside")
