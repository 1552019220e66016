"""What the check of built wheels finds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from check_wheel import faults

LICENCE = b"the licence\n"
METADATA = "Name: distill-thing\nVersion: 0.1.0\nLicense-Expression: Apache-2.0\n\nA readme.\n"
GOOD = {
    "distill_thing/__init__.py": b"",
    "distill_thing/py.typed": b"",
    "distill_thing-0.1.0.dist-info/METADATA": METADATA.encode(),
    "distill_thing-0.1.0.dist-info/licenses/LICENSE": LICENCE,
}


def built(folder: Path, files: dict[str, bytes]) -> Path:
    """A wheel with these files."""
    wheel = folder / "distill_thing-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def test_a_complete_wheel_has_no_fault(tmp_path: Path) -> None:
    """Licence, type marker, metadata and README are there, tests are not."""
    assert faults(built(tmp_path, GOOD), LICENCE) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("distill_thing-0.1.0.dist-info/licenses/LICENSE", b"another\n", "LICENSE"),
        ("distill_thing/py.typed", None, "py.typed"),
        ("distill_thing-0.1.0.dist-info/METADATA", METADATA.replace("Apache-2.0", "MIT").encode(), "MIT"),
        ("distill_thing-0.1.0.dist-info/METADATA", METADATA.replace("A readme.", "").encode(), "README"),
        ("tests/test_thing.py", b"", "tests"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    """One line each, with the wheel's name."""
    files = {key: value for key, value in (GOOD | {name: content}).items() if value is not None}
    (line,) = faults(built(tmp_path, files), LICENCE)
    assert line.startswith("distill_thing-0.1.0-py3-none-any.whl: ")
    assert said in line
