"""An option for the kind of machine, and a summary of the substitutions that this machine forced."""

from __future__ import annotations

import pytest

KINDS = ("cpu", "cuda", "rocm", "xpu", "mps")
LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--kind``: only the recorded machines of one kind; all of them by default."""
    parser.addoption("--kind", choices=KINDS, default=None, help="only recorded machines of this kind")


def pytest_configure(config: pytest.Config) -> None:
    """Create the list of lines for the summary."""
    config.stash[LINES] = []


@pytest.fixture
def say(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the summary."""
    return request.config.stash[LINES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print each policy with its machines and what this machine forced."""
    for line in config.stash[LINES]:
        terminalreporter.write_line(line)
