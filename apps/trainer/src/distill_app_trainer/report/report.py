"""The results of a run as report.json, report.html, lines for a terminal, and a card beside each model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distill_app_trainer.report.cards import model_card
from distill_app_trainer.report.charts import COSTS, curves, places, reliability, trade
from distill_app_trainer.report.rendering import render, shown_metric
from distill_app_trainer.report.results import (
    ExportResult,
    PairResult,
    RunReport,
    SystemResult,
    from_dict,
    to_dict,
)

_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a run for a reader.

    Attributes:
        content: The results.
    """

    content: RunReport

    @classmethod
    def read(cls, file: Path) -> "Report":
        """Read a report.json.

        Raises:
            ValueError: The file is not a report of this version.
        """
        return cls(content=from_dict(RunReport, json.loads(file.read_text(encoding="utf-8"))))

    def write(self, folder: Path, cards: Mapping[str, Path]) -> None:
        """Write report.json and report.html into ``folder`` and a README.md into each model's folder.

        Args:
            folder: The run folder.
            cards: Folders of models by system name.
        """
        text = json.dumps(to_dict(self.content), indent=1, ensure_ascii=False) + "\n"
        (folder / "report.json").write_text(text, encoding="utf-8")
        (folder / "report.html").write_text(self.html(), encoding="utf-8")
        for system, path in cards.items():
            model_card(self.content, system, path, self.rows()).save(path / "README.md")

    def html(self) -> str:
        """One page that refers to nothing outside it."""
        systems = self.content.systems
        found = (trade(systems, self.content.other_runs, cost=cost) for cost in COSTS)
        return render(
            "report.html.jinja",
            report=self.content,
            curves=curves(self.content.stages),
            trades=[one for one in found if one is not None],
            reliability=reliability(systems),
            places=places(systems),
            memory=self.memory(),
            rows=self.rows(),
            samples=self.content.samples,
        )

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """``(system, parameters, size, metrics, ms per example)`` as texts, in the order of the run."""
        return [
            (
                name,
                "" if entry.parameters is None else f"{entry.parameters / 1e6:.2f} M",
                f"{entry.bytes / _MB:.2f} MB",
                "; ".join(f"{key} {shown_metric(value)}" for key, value in entry.metrics.items()),
                f"{entry.ms_per_example:.2f}",
            )
            for name, entry in self.content.systems.items()
        ]

    def summary(self) -> str:
        """The results for a terminal: systems, comparisons, examples side by side."""
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
            for text in (*self.statements(), *self.samples()):
                console.print(text, markup=False, soft_wrap=True)
        return captured.get().rstrip("\n")

    def statements(self) -> list[str]:
        """Each comparison, each export and each note, in a sentence."""
        pairs = [pair for found in self.content.comparisons.values() for pair in found.values()]
        return [
            *(_verdict(self.content.systems, pair) for pair in pairs if pair.retention is not None),
            *(pair.statement for pair in pairs),
            *map(_export_statement, self.content.exports.values()),
            *self.content.notes,
        ]

    def memory(self) -> list[tuple[str, float, float]]:
        """``(stage, planned MB, measured MB)`` of each training whose memory was measured."""
        policies = self.content.plan.get("policies", {})
        found = []
        for name, entry in self.content.stages.items():
            used = getattr(entry, "memory_bytes", 0)
            stage = next((one for one in policies if name == one or name.startswith(f"{one}_seed")), None)
            planned = policies[stage].get("memory", {}).get("total_bytes") if stage else None
            if planned and used:
                found.append((name, planned / _MB, used / _MB))
        return found

    def samples(self) -> list[str]:
        """A few rows: the input, the reference, and the answer of each system."""
        lines = []
        for row in self.content.samples.rows:
            reference = row.reference if isinstance(row.reference, str) else " | ".join(row.reference)
            lines.append(f"{row.input}  (reference: {reference})")
            lines += [f"    {name}: {text}" for name, text in row.answers.items()]
        return lines


def other_runs(folder: Path, name: str) -> dict[str, dict[str, SystemResult]]:
    """Systems of the finished runs of the same name that lie beside a run.

    Args:
        folder: The folder of the run.
        name: The name that the runs share.
    """
    found = {}
    for file in sorted(folder.parent.glob(f"{name}-*/report.json")):
        if file.parent == folder:
            continue
        try:
            systems = Report.read(file).content.systems
        except (OSError, ValueError):
            continue  # of another version, or truncated: its systems are only drawn beside
        found[file.parent.name] = {
            key: SystemResult(bytes=one.bytes, ms_per_example=one.ms_per_example, metrics=one.metrics)
            for key, one in systems.items()
        }
    return found


def _verdict(systems: Mapping[str, SystemResult], pair: PairResult) -> str:
    """``student keeps 87.1 [85.0, 89.2] % of teacher's exact_match, at 45 % of its size, ...``."""
    student, teacher = systems[pair.first], systems[pair.second]
    kept = f"{pair.first} keeps {shown_metric(pair.retention)} of {pair.second}'s {pair.metric}"
    speed = teacher.ms_per_example / student.ms_per_example
    return (
        f"{kept}, at {100 * student.bytes / teacher.bytes:.0f} % of its size and {speed:.1f} times its speed."
    )


def _export_statement(entry: ExportResult) -> str:
    """``student exported to ctranslate2 int8: 0.68 MB; a text alone takes 0.38 ms, 27 times faster ...``."""
    size = f"{entry.model} exported to {entry.format} {entry.precision}: {entry.size_bytes / _MB:.2f} MB"
    if entry.ms_alone is None:
        return f"{size}."
    export, torch = entry.ms_alone["export"], entry.ms_alone["pytorch"]
    ratio = torch / export
    faster = f"{ratio:.1f} times faster than" if ratio >= 1 else f"{1 / ratio:.1f} times slower than"
    return f"{size}; a text alone takes {export:.2f} ms, {faster} PyTorch ({torch:.2f} ms)."
