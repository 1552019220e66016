"""Another package registers an exporter by an entry point, and its format is then as ours are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_deploy import (
    ExportError,
    TextGenerator,
    export,
    export_formats,
    export_path,
    load_runtime,
    read_runtime_facts,
)

Trained = Callable[[str], Path]
MODULE = """
from distill_deploy import Conversion, Exporter
from distill_deploy.ctranslate2_export import CTranslate2Exporter

class Renamed(Exporter):
    tasks, precisions = ("causal",), ("fp32",)

    def convert(self, job):
        CTranslate2Exporter().convert(job)
        job.versions["renamed"] = "1.0"

    def load(self, folder, facts, *, threads, seed):
        return CTranslate2Exporter().load(folder, facts, threads=threads, seed=seed)

class Broken:
    pass
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two distributions on ``sys.path``; both register ``twice``."""
    place = tmp_path / "site"
    place.mkdir()
    (place / "renamed_exporter.py").write_text(MODULE)
    for name, lines in {
        "first": ("renamed = renamed_exporter:Renamed", "broken = renamed_exporter:Broken", "twice = a:b"),
        "second": ("twice = c:d",),
    }.items():
        info = place / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[distill_deploy.exporters]", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "renamed_exporter", raising=False)
    return place


def test_a_registered_format_is_listed_and_not_imported() -> None:
    """Its name stands after our own; looking up another format imports nothing of it."""
    assert export_formats() == ("ctranslate2", "onnx", "openvino", "broken", "renamed", "twice")
    assert export_path("causal").format == "ctranslate2"
    assert "renamed_exporter" not in sys.modules


@pytest.mark.extra("export")  # noqa: S610
def test_a_registered_format_is_exported_and_run(trained: Trained, tmp_path: Path) -> None:
    """Certificate, manifest, facts and runtime are as those of our own formats."""
    path = export_path("causal", format="renamed", precision="fp32")
    assert (path.format, path.exporter) == ("renamed", "plugin")
    how = {"format": "renamed", "precision": "fp32"}
    done = export(trained("gpt2"), tmp_path / "e", held_out=["abc"], max_new_tokens=8, **how)  # type: ignore[arg-type]  # texts
    assert done.certificate["failures"] == []
    assert (done.certificate["format"], done.certificate["exporter"]) == ("renamed", "plugin")
    assert done.certificate["exporter_versions"] == {"renamed": "1.0"}
    assert read_runtime_facts(done.path).format == "renamed"
    runtime = load_runtime(done.path, threads=1)
    assert isinstance(runtime, TextGenerator)
    assert runtime.answer(["abc"]) == ["d e f g h i j k"]


@pytest.mark.parametrize(
    ("task", "name", "precision", "field", "said"),
    [
        ("masked", "renamed", "fp32", "format", "was asked for a masked model"),
        ("causal", "renamed", "int8", "precision", "renamed on a CPU has fp32"),
        ("causal", "renamde", "fp32", "format", "was asked for a causal model"),
        ("causal", "broken", "fp32", "format", "not derived from distill_deploy.Exporter"),
        ("causal", "twice", "fp32", "format", "several packages register the format 'twice': first, second"),
    ],
)
def test_what_a_registered_exporter_lacks_is_said(
    task: str, name: str, precision: str, field: str, said: str
) -> None:
    """A task or precision that it does not take, a wrong name, an object of another kind, two of one name."""
    with pytest.raises(ExportError, match=said) as refused:
        export_path(task, format=name, precision=precision)  # type: ignore[arg-type]  # names, not literals
    assert refused.value.field == field
    assert refused.value.found == (precision if field == "precision" else name)
