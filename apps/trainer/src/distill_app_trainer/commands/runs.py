"""The commands that show runs: list, report."""

import argparse
import json
from pathlib import Path

from distill_app_trainer.commands.command import Command, add_json
from distill_app_trainer.errors import ReplaceWord, RunFolderError
from distill_app_trainer.spelling import did_you_mean, nearest

REPORT_FILE = "report.json"


def list_runs(arguments: argparse.Namespace) -> None:
    """List the runs of a folder with their state and first figures."""
    from distill_app_trainer.run.folder import RUN_FILE

    base = Path(arguments.folder)
    if not base.is_dir():
        beside = base.parent.iterdir() if base.parent.is_dir() else ()
        others = [str(path) for path in beside if path.is_dir()]
        right = nearest(str(base), others)
        raise RunFolderError(
            f"{base} is not a directory.{did_you_mean(str(base), others)} Runs are made in ./runs; name "
            "another folder.",
            fix="distill-train examples" if right is None else ReplaceWord(str(base), right),
        )
    paths = [path for path in sorted(base.iterdir()) if (path / RUN_FILE).is_file()]
    runs = {path.name: _facts(path) for path in paths}
    if arguments.as_json:
        print(json.dumps({"runs": runs}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "state", "date", "figures")
    for name, facts in runs.items():
        figures = facts.get("figures", {})
        lines = [f"{system}: {text}" for system, text in figures.items()] if isinstance(figures, dict) else []
        table.add_row(
            name, str(facts["state"]), str(facts.get("date", "")), "\n".join(lines).replace("[", r"\[")
        )
    Console(highlight=False).print(table, markup=False)


def _facts(path: Path) -> dict[str, object]:
    """State of a run and, when it is finished, its date, its metrics and the first of them as a text."""
    from distill_app_trainer.report.rendering import shown_metric
    from distill_app_trainer.report.report import Report
    from distill_app_trainer.report.results import to_dict
    from distill_app_trainer.run.folder import LOCK, PARTIAL

    if path.name.endswith(PARTIAL):
        return {"state": "in use" if (path / LOCK).exists() else "unfinished"}
    try:
        content = Report.read(path / REPORT_FILE).content
    except (OSError, ValueError):  # none, or of another version
        return {"state": "finished"}
    systems = content.systems.items()
    metrics = {name: {key: to_dict(one) for key, one in entry.metrics.items()} for name, entry in systems}
    firsts = {name: next(iter(entry.metrics.items())) for name, entry in systems if entry.metrics}
    figures = {name: f"{key} {shown_metric(value)}" for name, (key, value) in firsts.items()}
    return {"state": "finished", "date": content.run.date, "metrics": metrics, "figures": figures}


def report(arguments: argparse.Namespace) -> None:
    """Print the results of a finished run, and write its report.html again."""
    from distill_app_trainer.report.report import Report
    from distill_app_trainer.report.results import to_dict
    from distill_app_trainer.run.folder import find_run

    path = find_run(Path(arguments.folder))
    file = path / REPORT_FILE
    if not file.is_file():
        resume = f"distill-train resume {arguments.folder}"
        raise RunFolderError(f"{path} has no {REPORT_FILE} yet. Resume with: {resume}", fix=resume)
    try:
        found = Report.read(file)
    except ValueError as error:
        raise RunFolderError(
            f"{file} is not a report that this version can read: {str(error).splitlines()[0]}. Run it again.",
            fix=f"distill-train run {path / 'run.toml'}",
        ) from None
    if arguments.as_json:
        print(json.dumps(to_dict(found.content)))
        return
    (path / "report.html").write_text(found.html(), encoding="utf-8")
    print(found.summary())
    print(f"Report: {path / 'report.html'}")


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="runs", help="the folder of run folders (runs)"
    )
    add_json(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="the folder of a run")
    add_json(parser)


LIST = Command(list_runs, _list)
REPORT = Command(report, _report)
