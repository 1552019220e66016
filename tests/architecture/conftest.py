"""Repeat the checks across packages for each member, and share what they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspace import ROOT, Member, members


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test that takes ``member`` or ``package`` for each member, or each package."""
    for name, chosen in (
        ("member", members()),
        ("package", [one for one in members() if one.folder.parent.name == "packages"]),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, chosen, ids=[one.folder.name for one in chosen])


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the project."""
    return ROOT


@pytest.fixture(scope="session")
def everyone() -> list[Member]:
    """All members."""
    return members()
