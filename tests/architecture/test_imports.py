"""Which package may import which, and what an import may load."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from workspace import Member, imports

HEAVY = ("torch", "transformers", "datasets")
TEST_TOOLS = {"pytest", "hypothesis", "pytest-timeout"}
# An oracle of the metrics' tests, with its own dependencies.
ORACLES = {"distill-metrics": {"rouge-score", "nltk"}}
# Imported only if another package's extra installed it: distill-hwdetect[ipex].
BORROWED = {"distill-adapters": {"intel-extension-for-pytorch"}}
# Not found under a distribution of the same name: an extra declares it, or its import name differs.
UNINSTALLED = {
    "intel_extension_for_pytorch": "intel-extension-for-pytorch",
    "bert_score": "bert-score",
    "optimum": "optimum-onnx",
}


def imported(folder: Path) -> dict[str, set[str]]:
    """Top-level names imported below ``folder``, with the files that do; the standard library left out."""
    found: dict[str, set[str]] = {}
    for path, name in imports(folder):
        if name not in sys.stdlib_module_names and name != "conftest":
            found.setdefault(name, set()).add(path.name)
    return found


def distributions(name: str) -> set[str]:
    """The distributions that may provide an import name."""
    providers = importlib.metadata.packages_distributions().get(name, [])
    return {one.lower().replace("_", "-") for one in providers} or {
        UNINSTALLED.get(name, name.replace("_", "-"))
    }


def test_a_package_imports_exactly_the_siblings_it_declares(member: Member, everyone: list[Member]) -> None:
    """In a workspace an undeclared sibling can be imported too, so the two lists are compared."""
    siblings = {one.import_name: one.name for one in everyone if one.name != member.name}
    used = {siblings[name] for name in imported(member.source) if name in siblings}
    assert used == member.requirements() & set(siblings.values())


def test_what_a_package_imports_it_declares(member: Member) -> None:
    """Each third-party import belongs to a distribution in the package's dependencies or extras."""
    declared = member.requirements() | {member.name} | BORROWED.get(member.name, set())
    undeclared = {
        name: files for name, files in imported(member.source).items() if not distributions(name) & declared
    }
    assert undeclared == {}


def brought(names: set[str]) -> set[str]:
    """The distributions ``names`` and everything that they require."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    left = set(names)
    while left:
        name = left.pop()
        found.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        parsed = [Requirement(text) for text in required]
        wanted = {one.name.lower() for one in parsed if not one.marker or one.marker.evaluate({"extra": ""})}
        left |= wanted - found
    return found


def test_tests_of_a_package_import_no_more_than_it_brings(package: Member) -> None:
    """So that they pass where the package is installed alone."""
    allowed = brought(package.requirements() | {package.name}) | TEST_TOOLS | ORACLES.get(package.name, set())
    foreign = {
        name: files
        for name, files in imported(package.folder / "tests").items()
        if not distributions(name) & allowed
    }
    assert foreign == {}


def test_importing_a_package_loads_nothing_heavy(member: Member) -> None:
    """Run files are checked before torch is imported, so no package imports torch or a library like it.

    What ``__all__`` lists is in ``dir``; that each name resolves is checked by mypy and the package's tests.
    """
    program = (
        f"import sys, {member.import_name} as package; "
        "listed = getattr(package, '__all__', []); "
        "assert len(listed) == len(set(listed)) and set(listed) <= set(dir(package)), listed; "
        f"print(*(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
