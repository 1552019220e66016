"""What a run found, as report.json, report.html and a card beside each model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_app_trainer.report.cards import model_card
from distill_app_trainer.report.charts import COSTS, curves, places, reliability, trade
from distill_app_trainer.report.rendering import render, shown_metric

SCHEMA_VERSION = 1
_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of a run.

    Attributes:
        content: Plain JSON types: ``schema_version run plan data systems evaluations comparisons stages
            exports samples notes versions``.
    """

    content: Mapping[str, object]

    def write(self, folder: Path, cards: Mapping[str, Path]) -> None:
        """Write report.json and report.html into ``folder`` and a README.md into each model's folder.

        Args:
            folder: The run folder.
            cards: Folders of models by system name.
        """
        text = json.dumps(self.content, indent=1, ensure_ascii=False, default=str) + "\n"
        (folder / "report.json").write_text(text, encoding="utf-8")
        (folder / "report.html").write_text(self.html(), encoding="utf-8")
        for system, path in cards.items():
            model_card(self.content, system, path, self.rows()).save(path / "README.md")

    def html(self) -> str:
        """One page that needs nothing beside it."""
        return render(
            "report.html.jinja",
            report=self.content,
            curves=curves(_table(self.content, "stages")),
            trades=[
                one
                for cost in COSTS
                if (
                    one := trade(
                        _table(self.content, "systems"), _table(self.content, "other_runs"), cost=cost
                    )
                )
            ],
            reliability=reliability(_table(self.content, "systems")),
            places=places(_table(self.content, "systems")),
            memory=self.memory(),
            rows=self.rows(),
            samples=_table(self.content, "samples"),
        )

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """``(system, parameters, size, metrics, ms per example)`` as texts, in the order of the run."""
        found = []
        for name, entry in _table(self.content, "systems").items():
            assert isinstance(entry, Mapping)  # noqa: S101 - written by the stages
            metrics = [f"{key} {shown_metric(value)}" for key, value in entry["metrics"].items()]
            parameters = entry["parameters"]
            found.append(
                (
                    name,
                    "" if parameters is None else f"{parameters / 1e6:.2f} M",
                    f"{entry['bytes'] / _MB:.2f} MB",
                    "; ".join(metrics),
                    f"{entry['ms_per_example']:.2f}",
                )
            )
        return found

    def summary(self) -> str:
        """The result for a terminal: systems, comparisons, examples side by side."""
        from rich.console import Console
        from rich.table import Table

        console = Console(width=120, no_color=True, highlight=False)
        with console.capture() as captured:
            if rows := self.rows():
                table = Table()
                for title in ("system", "parameters", "size", "metrics [95 % interval]", "ms/example"):
                    table.add_column(title, justify="left" if title.startswith(("sys", "met")) else "right")
                for row in rows:
                    table.add_row(*(cell.replace("; ", "\n").replace("[", r"\[") for cell in row))
                console.print(table)
            for text in self.statements():
                console.print(text, markup=False, soft_wrap=True)
            for text in self.samples():
                console.print(text, markup=False, soft_wrap=True)
        return captured.get().rstrip("\n")

    def statements(self) -> list[str]:
        """Each comparison, and each thing to know, in a sentence."""
        pairs = [pair for pair in _table(self.content, "comparisons").values() if isinstance(pair, Mapping)]
        said = [_verdict(self.content, one) for pair in pairs for one in pair.values() if "retention" in one]
        said += [str(one["statement"]) for pair in pairs for one in pair.values()]
        said += [_export_statement(entry) for entry in _table(self.content, "exports").values()]
        notes = self.content.get("notes", [])
        assert isinstance(notes, Sequence)  # noqa: S101 - ours
        return said + [str(note) for note in notes]

    def memory(self) -> list[tuple[str, float, float]]:
        """``(stage, planned MB, measured MB)`` of each training whose memory was watched."""
        policies = _table(_table(self.content, "plan"), "policies")
        found = []
        for name, entry in _table(self.content, "stages").items():
            stage = next((one for one in policies if name == one or name.startswith(f"{one}_seed")), None)
            planned = _table(_table(policies, str(stage)), "memory").get("total_bytes")
            used = entry.get("memory_bytes") if isinstance(entry, Mapping) else None
            if planned and used:
                found.append((name, float(str(planned)) / _MB, float(used) / _MB))
        return found

    def samples(self) -> list[str]:
        """A few rows: what was asked, what is right, what each system said."""
        rows = _table(self.content, "samples").get("rows", [])
        assert isinstance(rows, Sequence)  # noqa: S101 - written by the stages
        lines = []
        for row in rows:
            right = row["reference"] if isinstance(row["reference"], str) else " | ".join(row["reference"])
            lines.append(f"{row['input']}  (right: {right})")
            lines += [f"    {name}: {text}" for name, text in row["answers"].items()]
        return lines


def other_runs(folder: Path, name: str) -> dict[str, object]:
    """Systems of the finished runs of the same name that lie beside a run.

    Args:
        folder: Of the run.
        name: What the runs are called before their identity.
    """
    found: dict[str, object] = {}
    for file in sorted(folder.parent.glob(f"{name}-*/report.json")):
        if file.parent == folder:
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            found[file.parent.name] = {
                system: {key: entry[key] for key in ("bytes", "ms_per_example", "metrics")}
                for system, entry in content["systems"].items()
            }
        except (OSError, ValueError, KeyError):
            continue  # of another version, or cut off: it is only a dot beside
    return found


def _verdict(content: Mapping[str, object], comparison: Mapping[str, object]) -> str:
    """``student keeps 87.1 % [85.0, 89.2] of the exact_match of teacher, at 45 % of its size, ...``."""
    student, teacher = (str(comparison[name]) for name in ("first", "second"))
    systems = _table(content, "systems")
    ours, theirs = (systems[name] for name in (student, teacher))
    assert isinstance(ours, Mapping)  # noqa: S101 - written by the stages
    assert isinstance(theirs, Mapping)  # noqa: S101 - written by the stages
    size = 100 * ours["bytes"] / theirs["bytes"]
    speed = theirs["ms_per_example"] / ours["ms_per_example"]
    kept = f"{student} keeps {shown_metric(comparison['retention'])} of {teacher}'s {comparison['metric']}"
    return f"{kept}, at {size:.0f} % of its size and {speed:.1f} times its speed."


def _export_statement(entry: object) -> str:
    """``student exported to ctranslate2 int8: 0.68 MB; one text takes 0.38 ms, 27 times faster than ...``."""
    assert isinstance(entry, Mapping)  # noqa: S101 - written by the stages
    what = f"{entry['model']} exported to {entry['format']} {entry['precision']}"
    size = f"{what}: {entry['size_bytes'] / _MB:.2f} MB"
    if "ms_alone" not in entry:
        return f"{size}."
    export, torch = entry["ms_alone"]["export"], entry["ms_alone"]["pytorch"]
    ratio = torch / export
    faster = f"{ratio:.1f} times faster than" if ratio >= 1 else f"{1 / ratio:.1f} times slower than"
    return f"{size}; a text alone takes {export:.2f} ms, {faster} PyTorch ({torch:.2f} ms)."


def _table(content: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = content.get(key, {})
    assert isinstance(found, Mapping)  # noqa: S101 - ours
    return found
