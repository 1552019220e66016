"""docs/run-file.md agrees with the code: keys, defaults, meanings, and the fields of a policy."""

from __future__ import annotations

import dataclasses
import re

import run_file_page
from distill_hwdetect import ExecutionPolicy

PAGE = run_file_page.PAGE.read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_code() -> None:
    """No key more or less, in the order of the code; ``python tools/run_file_page.py`` rewrites them."""
    assert run_file_page.written(PAGE) == PAGE


def test_a_table_that_differs_from_the_code_is_rewritten() -> None:
    """A wrong default, a key that is gone and one that is missing."""
    stale = PAGE.replace("| `seed` | 42 |", "| `seed` | 43 |").replace("| `steps` |", "| `stepps` |")
    stale = re.sub(r"^\| `beams` .*\n", "", stale, flags=re.MULTILINE)
    assert stale != PAGE
    assert run_file_page.written(stale) == PAGE


def test_fields_of_the_policy_are_listed() -> None:
    """Those that a run file may set."""
    section = PAGE.partition("## [hardware]\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    assert named == {one.name for one in dataclasses.fields(ExecutionPolicy)} - {"memory", "teacher"}
