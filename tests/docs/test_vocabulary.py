"""The check of the prose finds what it should, and the glossary is in order."""

from __future__ import annotations

import re

import pytest

import vocabulary
from workspace import ROOT

IDIOMS = vocabulary.vocabulary()
SOURCE = '''"""Each mistake is
mended."""
lane = 1  # of use
# alone
mend = f"told {lane} apart" "is no " "TOML"
'''


def found(text: str) -> list[tuple[int, str]]:
    """Line and words of each finding."""
    return sorted((one.line, one.found) for one in vocabulary.findings(text, IDIOMS))


def test_prose_of_python_is_its_comments_and_strings() -> None:
    """Also where an idiom goes over the end of a line; names in the code are not looked at."""
    assert found(vocabulary.without_code(vocabulary.python_prose(SOURCE))) == [
        (2, "mended"),
        (3, "of use alone"),
        (5, "is no TOML"),
    ]


def test_code_in_a_page_is_not_prose() -> None:
    """Fenced blocks and code spans are left out, and lines keep their numbers."""
    page = "A `mend` and\n```text\nmend\n```\n- ``told apart``\nis Mended, which mends nothing.\n"
    assert found(vocabulary.without_code(page)) == [(6, "Mended"), (6, "mends")]


@pytest.mark.parametrize(
    "text",
    [
        "There is no folder.",
        "It is no longer there and no more than 3.",
        "recommended amendments",
        "a fellow on the twinned kindred",
    ],
)
def test_ordinary_english_is_let_through(text: str) -> None:
    """Words that merely hold an idiom, and phrases that resemble one."""
    assert found(text) == []


def test_findings_are_printed_with_the_replacement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, and exit code 1."""
    monkeypatch.setattr(vocabulary, "files", lambda paths: [ROOT / "README.md"])
    monkeypatch.setattr(vocabulary, "prose", lambda path: "One\ntwin.")
    assert vocabulary.main([]) == 1
    assert capsys.readouterr().out == "README.md:2: 'twin': say baseline\n"
    monkeypatch.setattr(vocabulary, "prose", lambda path: "One baseline.")
    assert vocabulary.main([]) == 0


def test_the_whole_project_is_read() -> None:
    """Pages and sources of every package, but no changelog."""
    names = {path.relative_to(ROOT).as_posix() for path in vocabulary.files([])}
    assert {"README.md", "docs/glossary.md", "packages/metrics/README.md", "noxfile.py"} <= names
    assert not [name for name in names if name.endswith("CHANGELOG.md")]


def test_the_glossary_is_alphabetical() -> None:
    """Each term has a sentence that names it."""
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^- \*\*`?([^*`]+)`?\*\*: (?:[A-Z][^.]+)", page, re.MULTILINE)
    assert terms == sorted(terms, key=str.casefold)
    assert len(terms) == page.count("\n- ") >= 45
