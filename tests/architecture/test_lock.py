"""The committed locks: portable, and still what resolves."""

from __future__ import annotations

import re
import tomllib

import pytest

from lock import committed, portable, resolved


def versions(lock: str) -> dict[tuple[str, str], frozenset[str]]:
    """Name and version of each package from an index, with its resolution markers."""
    return {
        (package["name"], package["version"]): frozenset(package.get("resolution-markers", []))
        for package in tomllib.loads(lock)["package"]
        if "registry" in package["source"]
    }


def test_committed_locks_name_no_address() -> None:
    """Neither uv.lock nor requirements.lock."""
    assert "://" not in committed("uv.lock")
    assert "://" not in committed("requirements.lock")


def test_committed_lock_is_in_the_portable_form() -> None:
    """Making it portable again changes nothing."""
    assert portable(committed("uv.lock")) == committed("uv.lock")


def test_every_requirement_has_hashes() -> None:
    """Each line of requirements.lock that names a version is followed by at least one SHA-256."""
    lines = committed("requirements.lock").splitlines()
    named = [number for number, line in enumerate(lines) if "==" in line and not line.startswith(" ")]
    assert named
    assert all(re.match(r"    --hash=sha256:[0-9a-f]{64}", lines[number + 1]) for number in named)


@pytest.mark.timeout(120)
def test_committed_lock_resolves_to_the_same_versions() -> None:
    """From whatever index this machine has; markers are compared as sets."""
    lock = committed("uv.lock")
    complete, requirements = resolved(lock)
    assert versions(complete) == versions(lock)
    pinned = set(re.findall(r"^\S+==\S+", requirements, re.MULTILINE))
    assert pinned == set(re.findall(r"^\S+==\S+", committed("requirements.lock"), re.MULTILINE))
