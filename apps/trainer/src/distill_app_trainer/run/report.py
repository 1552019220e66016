"""Build the report of a run from what its stages have found so far."""

import datetime as dt
import platform
from pathlib import Path

from distill_app_trainer.report.report import Report, other_runs
from distill_app_trainer.report.results import RunFacts, RunReport, SystemResult
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.runfile.kinds import EvaluateStage
from distill_app_trainer.runfile.read import to_toml
from distill_app_trainer.runfile.references import of_kind, systems_of, teacher_of
from distill_app_trainer.runfile.schema import RunConfig

_PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "peft",
    "distill-kd",
    "distill-adapters",
    "distill-app-trainer",
)


def write_report(context: RunContext, *, seconds: float | None) -> Report:
    """Write what is known so far into the run folder, and return it.

    Args:
        context: The run.
        seconds: The duration of the run; None before its end.
    """
    config, results = context.plan.config, context.results
    facts = RunFacts(
        name=config.run.name,
        task=context.plan.task,
        seed=config.run.seed,
        seconds=seconds,
        forecast_seconds=context.forecast,
        stage_seconds=dict(context.seconds),
        date=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    content = RunReport(
        run=facts,
        plan=context.plan.to_dict(),
        data=_data(context),
        systems=_in_order(context),
        evaluations=results.evaluations,
        comparisons=results.comparisons,
        stages=results.stages,
        exports=results.exports,
        samples=results.samples,
        other_runs=other_runs(context.folder.path, config.run.name),
        notes=notes(config),
        versions=versions(),
        run_file=to_toml(config),
    )
    content.statements.extend(Report(content=content).statements())
    report = Report(content=content)
    cards = {path.name: path for path in (context.folder.path / "models").glob("*") if path.is_dir()}
    report.write(context.folder.path, cards)
    return report


def _data(context: RunContext) -> dict[str, dict[str, object]]:
    """Facts of each name of data, and the share of rows that the limits truncate."""
    from distill_datakit import dataset_statistics

    files = {name: Path(source.path) for name, source in context.plan.config.data.items()}
    facts = dataset_statistics(context.texts, files)
    for name, percent in context.results.truncated_percent.items():
        facts[name]["truncated_percent"] = percent
    return facts


def _in_order(context: RunContext) -> dict[str, SystemResult]:
    """Systems as the evaluate stages name them, then exports, whichever was scored first."""
    config, systems = context.plan.config, context.results.systems
    named = [
        name for _, stage in of_kind(config, EvaluateStage) for name in systems_of(config, stage.systems)
    ]
    return {name: systems[name] for name in dict.fromkeys([*named, *systems]) if name in systems}


def notes(config: RunConfig) -> list[str]:
    """What a reader of the figures should know."""
    trained = [name for name, stage in config.stages.items() if stage.training()]
    distilled = [name for name in trained if teacher_of(config, name)]
    if distilled == trained and distilled:
        missing = f"No stage trains the student of {distilled[0]!r} without its teacher"
        return [f"{missing}, so nothing here shows whether distilling paid off."]
    return []


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
