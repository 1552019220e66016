"""The examples in the docstrings of public functions run unchanged."""

from __future__ import annotations

import doctest
import importlib
import inspect
from typing import TYPE_CHECKING

import pytest

from example_files import write_example_files
from workspace import members

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGES = [member.import_name for member in members() if member.folder.parent.name == "packages"]


def public_functions() -> Iterator[tuple[str, str]]:
    """Package and name of each public function."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in sorted(module.__all__):
            if inspect.isfunction(getattr(module, name)):
                yield package, name


@pytest.fixture(name="files", scope="session")
def made_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every example runs; an example writes under a name of its own."""
    return write_example_files(tmp_path_factory.mktemp("examples"))


@pytest.mark.parametrize(("package", "name"), list(public_functions()))
def test_a_public_function_shows_an_example_that_runs(
    package: str, name: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least one ``>>>``, whose output is what the docstring says."""
    monkeypatch.chdir(files)
    function = getattr(importlib.import_module(package), name)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert example.examples, f"{package}.{name} has no example"
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=options).run(example, out=said.append, clear_globs=True)
    assert result.failed == 0, "".join(said)
