"""docs/run-file.md lists every key of a run file with its default."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from distill_adapters import TrainSettings
from distill_app_trainer import config
from distill_hwdetect import ExecutionPolicy
from distill_kd import DistillSettings
from workspace import ROOT

PAGE = (ROOT / "docs" / "run-file.md").read_text(encoding="utf-8")
TABLES: dict[str, type] = {
    "[run]": config.RunSettings,
    "[data]": config.DataSource,
    "[data.limits]": config.Limits,
    "[models.NAME]": config.ModelSource,
    **config.STAGE_KINDS,
    "train": TrainSettings,
    "objective": DistillSettings,
}


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def default(field: dataclasses.Field[object]) -> str:
    """A field's default as the page writes it."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        return "{}" if isinstance(value, dict) or dataclasses.is_dataclass(value) else repr(value)
    if field.default is dataclasses.MISSING:
        return "-"
    if field.default is None:
        return "none"
    if field.default == ():
        return "[]"
    return f"`{json.dumps(field.default)}`" if isinstance(field.default, str) else json.dumps(field.default)


@pytest.mark.parametrize("title", TABLES)
def test_each_key_is_listed_with_its_default(title: str) -> None:
    """In the order of the code, and no key more."""
    listed = re.findall(r"^\| `(\w+)` \| (.*?) \|", section(title), re.MULTILINE)
    fields = [one for one in dataclasses.fields(TABLES[title]) if one.name != "kind"]
    assert listed == [(one.name, default(one)) for one in fields]


def test_fields_of_the_policy_are_listed() -> None:
    """Those that a run file may set."""
    named = set(re.findall(r"`(\w+)`", section("[hardware]")))
    assert named == {one.name for one in dataclasses.fields(ExecutionPolicy)} - {"memory", "teacher"}
