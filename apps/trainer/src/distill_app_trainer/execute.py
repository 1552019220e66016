"""Walk through the stages of a run, in the order of its file."""

import contextlib
import datetime as dt
import platform
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from distill_app_trainer.errors import StoppedError
from distill_app_trainer.plan.eta import Forecast
from distill_app_trainer.plan.plan import RunPlan
from distill_app_trainer.plan.schedule import Job, jobs_of, needed
from distill_app_trainer.report.health import data_facts
from distill_app_trainer.report.report import SCHEMA_VERSION, Report, other_runs
from distill_app_trainer.run.display import Display, Talk, Tellers
from distill_app_trainer.run.folder import RunFolder
from distill_app_trainer.run.quiet import quieten, quieten_libraries, wait_asleep
from distill_app_trainer.run.workers import walk
from distill_app_trainer.runfile.read import to_toml
from distill_app_trainer.runfile.references import variants
from distill_app_trainer.runfile.schema import (
    CacheTeacherStage,
    DistillStage,
    EvaluateStage,
    ExportStage,
    FinetuneStage,
    MergeStage,
    PseudoLabelStage,
    RunConfig,
)
from distill_app_trainer.runfile.suggest import for_failure

if TYPE_CHECKING:
    from distill_app_trainer.run.context import Workbench

_PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "peft",
    "distill-kd",
    "distill-adapters",
    "distill-app-trainer",
)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """Where a finished run lies, and what it found.

    Attributes:
        path: The run folder.
        report: Its figures; None for a run that was to stop before its end.
        next_command: What to type next, or None.
    """

    path: Path
    report: Report | None
    next_command: str | None


def execute(
    config: RunConfig,
    plan: RunPlan,
    *,
    display: Display,
    debug: bool = False,
    unfinished: Path | None = None,
    until: Collection[str] = (),
) -> FinishedRun:
    """Run every stage and write the report.

    Args:
        config: A checked run.
        plan: Its plan.
        display: Who tells a person what happens.
        debug: Let libraries warn on the screen.
        unfinished: The folder of the same run, begun before, to go on with.
        until: Only these stages and those they wait for; the run then stays unfinished.

    Returns:
        The finished run; its folder lost ``.partial`` from its name.

    Raises:
        WouldNotFitError: Before anything is written: a stage does not fit this machine.
        DataError: Before anything is written: a row that cannot be used.
        RunFolderError: ``unfinished`` cannot be gone on with.
        StoppedError: Ctrl-C or SIGTERM came.
        Exception: What a package raises while a stage runs; the folder then keeps ``.partial`` in its name.
    """
    wait_asleep()
    if not debug:
        (quieten_libraries if plan.slots == 1 else quieten)()
    from distill_app_trainer.run.context import Workbench
    from distill_app_trainer.run.data import load_texts

    texts = load_texts(config)
    rows = {name: len(part) for name, part in texts.items()}
    display.plan(plan, rows)
    plan.refuse_if_too_big()
    folder = RunFolder.new(config) if unfinished is None else RunFolder.reopen(unfinished, config)
    bench = Workbench(plan=plan, folder=folder, display=display, texts=texts)
    for other in folder.unfinished() if unfinished is None else ():
        display.note(
            f"An unfinished run of the same lies in {shown(other)}: distill-train resume {shown(other)}"
        )
    _take_up(bench)
    started = time.monotonic()
    bench.display = Tellers(display, Forecast(plan, rows, _forecast(bench, display)))
    folder.event("started", rows=rows, versions=versions())
    jobs = [job for job in jobs_of(config) if not until or job.stage in needed(config, until)]
    _walk(bench, jobs, display, debug=debug)
    if until:
        folder.release()
        return FinishedRun(
            path=folder.path, report=None, next_command=f"distill-train resume {shown(folder.path)}"
        )
    report = write_report(bench, seconds=time.monotonic() - started)
    path = folder.finish()
    return FinishedRun(path=path, report=report, next_command=_next_command(bench, path))


def _take_up(bench: "Workbench") -> None:
    """Where an earlier process left off."""
    state = bench.folder.state()
    if state:
        bench.over = [str(name) for name in state["over"]]
        bench.results |= cast("dict[str, dict[str, object]]", state["results"])
        bench.seconds |= cast("dict[str, float]", state["seconds"])
        bench.read_labels(bench.over)


def _forecast(bench: "Workbench", display: Display) -> Callable[[float], None]:
    def tell(seconds: float) -> None:
        bench.forecast = seconds
        bench.folder.event("forecast", seconds=round(seconds, 1))
        display.note(f"Forecast: about {seconds / 60:.1f} minutes for the whole run")

    return tell


def _walk(bench: "Workbench", jobs: Sequence[Job], display: Display, *, debug: bool) -> None:
    """Do the jobs that are not over; say how to go on when they cannot be done."""
    talk = Talk(display)
    go_on = f"distill-train resume {shown(bench.folder.path)}"
    try:
        with _sigterm_as_ctrl_c():
            walk(bench, jobs, do, debug=debug)
    except KeyboardInterrupt as error:
        bench.folder.event("stopped", reason="interrupted")
        raise StoppedError(f"interrupted. Go on with: {go_on}") from error
    except Exception as error:
        bench.folder.event("stopped", reason=f"{type(error).__name__}: {error}")
        display.note(f"Stopped. What was done so far is kept; once the reason is gone: {go_on}")
        fix = for_failure(bench.plan.config, bench.folder.path, bench.at, error)
        if fix is not None:
            error.fix = fix  # type: ignore[attr-defined]  # looked for by the command line
        raise
    finally:
        talk.end()
        display.close()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def do(bench: "Workbench", job: Job) -> str:
    """Do one job; a few words on what came out."""
    from distill_app_trainer.stages import evaluate, export, train

    name, stage = job.stage, bench.plan.config.stages[job.stage]
    if isinstance(stage, FinetuneStage | DistillStage):
        return train.run_training(bench, job, stage)
    if isinstance(stage, PseudoLabelStage):
        return train.run_label(bench, name, stage)
    if isinstance(stage, CacheTeacherStage):
        return train.run_store(bench, name, stage)
    if isinstance(stage, MergeStage):
        return train.run_merge(bench, name, stage)
    if isinstance(stage, EvaluateStage):
        return evaluate.run_evaluate(bench, name, stage)
    if isinstance(stage, ExportStage):
        return export.run_export(bench, name, stage)
    write_report(bench, seconds=None)
    return "report.json, report.html"


def write_report(bench: "Workbench", *, seconds: float | None) -> Report:
    """Write what is known so far, and give it back."""
    config, plan = bench.plan.config, bench.plan
    content: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "name": config.run.name,
            "task": plan.task,
            "seed": config.run.seed,
            "seconds": seconds,
            "forecast_seconds": bench.forecast,
            "stage_seconds": dict(bench.seconds),
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        },
        "plan": plan.to_dict(),
        **{key: value for key, value in bench.results.items() if key != "cut"},
        "data": _data(bench),
        "systems": _in_order(bench),
        "other_runs": other_runs(bench.folder.path, config.run.name),
        "notes": notes(config),
        "versions": versions(),
        "run_file": to_toml(config),
    }
    content["statements"] = Report(content=content).statements()
    report = Report(content=content)
    cards = {path.name: path for path in (bench.folder.path / "models").glob("*") if path.is_dir()}
    report.write(bench.folder.path, cards)
    return report


def _data(bench: "Workbench") -> dict[str, object]:
    """Facts of each name of data, and what share of it the limits cut where it was learnt from."""
    files = {name: Path(source.path) for name, source in bench.plan.config.data.items()}
    cut = bench.results.get("cut", {})
    return {
        name: {**facts, **({"cut_percent": cut[name]} if name in cut else {})}
        for name, facts in data_facts(bench.texts, files).items()
    }


def _in_order(bench: "Workbench") -> dict[str, object]:
    """Systems as the evaluate stages name them, then exports, whichever was scored first."""
    named = [
        system
        for stage in bench.plan.config.stages.values()
        if isinstance(stage, EvaluateStage)
        for one in stage.systems
        for system, _ in variants(bench.plan.config, one)
    ]
    systems = bench.results["systems"]
    return {name: systems[name] for name in dict.fromkeys([*named, *systems]) if name in systems}


def notes(config: RunConfig) -> list[str]:
    """What a reader of the figures should know."""
    stages = config.stages.items()
    distilled = [name for name, stage in stages if isinstance(stage, DistillStage)]
    baselines = [name for name, stage in stages if isinstance(stage, FinetuneStage)]
    if distilled and not baselines:
        missing = f"No stage trains the student of {distilled[0]!r} without its teacher"
        return [f"{missing}, so nothing here says whether distilling paid."]
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


def shown(path: Path) -> str:
    """A path as short as it can be written here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _next_command(bench: "Workbench", path: Path) -> str | None:
    exports = list(bench.results["exports"].values())
    if not exports:
        made = list((path / "models").glob("*"))
        test = bench.plan.config.data.get("test")
        if not made or test is None:
            return None
        return f"distill-eval {shown(made[0])} --data {shown(Path(test.path))}"
    first = cast("Mapping[str, object]", exports[0])
    return f"distill-edge run {shown(path / str(first['path']))} {_example(bench)}"


def _example(bench: "Workbench") -> str:
    import shlex

    rows = bench.results["samples"].get("rows")
    shipped = "hello"
    if bench.plan.task == "seq2seq" or not rows:
        return shipped
    return shlex.quote(str(cast("list[Mapping[str, object]]", rows)[0]["input"]))
