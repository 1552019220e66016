"""The runs of a folder, and the report of one."""

import json
from collections.abc import Mapping
from pathlib import Path

from distill_app_trainer.errors import Retype, RunFolderError, near, nearest
from distill_app_trainer.report.rendering import shown_metric
from distill_app_trainer.report.report import Report
from distill_app_trainer.run.folder import LOCK, PARTIAL, RUN_FILE, find_run

REPORT = "report.json"


def print_runs(folder: str, *, as_json: bool) -> None:
    """A table of runs, or one JSON object.

    Raises:
        RunFolderError: There is no such folder.
    """
    base = Path(folder)
    if not base.is_dir():
        others = (
            [str(path) for path in base.parent.iterdir() if path.is_dir()] if base.parent.is_dir() else []
        )
        right = near(folder, others)
        raise RunFolderError(
            f"{folder} is no folder.{nearest(folder, others)} Runs are made in ./runs; name another folder.",
            fix="distill-train examples" if right is None else Retype(folder, right),
        )
    paths = [path for path in sorted(base.iterdir()) if (path / RUN_FILE).is_file()]
    runs = {path.name: _facts(path) for path in paths}
    if as_json:
        print(json.dumps({"runs": runs}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "state", "date", "figures")
    for name, facts in runs.items():
        table.add_row(name, str(facts["state"]), str(facts.get("date", "")), _figures(facts))
    Console(highlight=False).print(table, markup=False)


def _facts(path: Path) -> dict[str, object]:
    if path.name.endswith(PARTIAL):
        return {"state": "in use" if (path / LOCK).exists() else "unfinished"}
    if not (path / REPORT).is_file():
        return {"state": "finished"}
    content = json.loads((path / REPORT).read_text(encoding="utf-8"))
    metrics = {name: system["metrics"] for name, system in content["systems"].items()}
    return {"state": "finished", "date": content["run"]["date"], "metrics": metrics}


def _figures(facts: Mapping[str, object]) -> str:
    """The first metric of every system, a line each."""
    metrics = facts.get("metrics", {})
    assert isinstance(metrics, Mapping)  # noqa: S101 - made above
    return "\n".join(
        f"{name}: {first} {shown_metric(found[first])}"
        for name, found in metrics.items()
        for first in list(found)[:1]
    ).replace("[", r"\[")


def print_report(folder: str, *, as_json: bool) -> None:
    """Print what a run found and write report.html anew.

    Raises:
        RunFolderError: It is no run, or not finished.
    """
    path = find_run(Path(folder))
    if not (path / REPORT).is_file():
        go_on = f"distill-train resume {folder}"
        raise RunFolderError(f"{path} has no {REPORT} yet. Go on with: {go_on}", fix=go_on)
    content = json.loads((path / REPORT).read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(content))
        return
    found = Report(content=content)
    (path / "report.html").write_text(found.html(), encoding="utf-8")
    print(found.summary())
    print(f"Report: {path / 'report.html'}")
