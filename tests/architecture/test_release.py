"""Preparing a release: what is refused, what is written, what is tagged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import release

PYPROJECT = '[project]\nname = "distill-thing"\nversion = "0.1.0"\n'
CHANGELOG = "# Changelog\n\n## Unreleased\n- Says more.\n\n## 0.1.0\n- First.\n"


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a repository of its own, committed."""
    folder = tmp_path / "packages" / "thing"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (folder / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    for variable in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{variable}_NAME", "Tester")
        monkeypatch.setenv(f"{variable}_EMAIL", "tester@example.invalid")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return folder


def test_version_changelog_commit_and_tag(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Version and changelog are written, committed and tagged; the push is printed and not run."""
    release.prepare(released, "0.2.0")
    release.tag(released)
    assert 'version = "0.2.0"' in (released / "pyproject.toml").read_text(encoding="utf-8")
    assert "## 0.2.0\n- Says more." in (released / "CHANGELOG.md").read_text(encoding="utf-8")
    assert release.git("tag", "--list") == "distill-thing-v0.2.0"
    assert release.git("status", "--porcelain") == ""
    assert "git push origin HEAD distill-thing-v0.2.0" in capsys.readouterr().out


def test_the_present_version_is_released_once(released: Path) -> None:
    """Without a version the one that is declared is tagged; a second time it is refused."""
    release.prepare(released, None)
    release.tag(released)
    with pytest.raises(release.ReleaseError, match="exists already"):
        release.prepare(released, None)


def test_an_unclean_tree_is_refused_by_name(released: Path) -> None:
    """What is not committed would not be in the tag."""
    (released / "new.py").write_text("", encoding="utf-8")
    with pytest.raises(release.ReleaseError, match=r"packages/thing/new\.py"):
        release.prepare(released, "0.2.0")


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "1.0", "v1.0.0"])
def test_a_version_that_is_none_or_not_above_is_refused(version: str) -> None:
    """A version is three numbers, above the present ones."""
    with pytest.raises(release.ReleaseError, match="version"):
        release.bumped(PYPROJECT, version)


@pytest.mark.parametrize(
    "text", ["# Changelog\n\n## 0.1.0\n- First.\n", "## Unreleased\n\n## 0.1.0\n- First.\n"]
)
def test_a_changelog_with_nothing_unreleased_is_refused(text: str) -> None:
    """A release needs an entry in the changelog."""
    with pytest.raises(release.ReleaseError, match="Unreleased"):
        release.dated(text, "0.2.0")


def test_nothing_is_written_when_either_text_is_refused(released: Path) -> None:
    """Version and changelog change together or not at all."""
    (released / "CHANGELOG.md").write_text("# Changelog\n", encoding="utf-8")
    release.git("commit", "-q", "-a", "-m", "empty")
    with pytest.raises(release.ReleaseError, match="Unreleased"):
        release.prepare(released, "0.2.0")
    assert release.git("status", "--porcelain") == ""
