"""Execute the stages of a run, in the order of its file."""

import contextlib
import shlex
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_adapters.quiet import quieten, quieten_libraries, wait_passively
from distill_app_trainer.errors import StoppedError
from distill_app_trainer.plan.eta import Forecast
from distill_app_trainer.plan.plan import RunPlan
from distill_app_trainer.plan.schedule import Job, jobs_of, needed
from distill_app_trainer.report.report import Report
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.run.data import load_texts
from distill_app_trainer.run.display import Display, LogRelay
from distill_app_trainer.run.folder import RunFolder
from distill_app_trainer.run.listeners import listeners
from distill_app_trainer.run.report import versions, write_report
from distill_app_trainer.run.workers import run_jobs
from distill_app_trainer.stages import run_stage


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """Where a finished run lies, and what it found.

    Attributes:
        path: The run folder.
        report: Its results; None for a run that was to stop before its end.
        next_command: What to type next, or None.
    """

    path: Path
    report: Report | None
    next_command: str | None


def execute(
    plan: RunPlan,
    *,
    display: Display,
    debug: bool = False,
    unfinished: Path | None = None,
    until: Collection[str] = (),
) -> FinishedRun:
    """Run every stage and write the report.

    Args:
        plan: The plan of a checked run.
        display: Shows what happens.
        debug: Let libraries warn on the screen.
        unfinished: The folder of the same run, begun before, to resume.
        until: Only these stages and those they wait for; the run then stays unfinished.

    Returns:
        The finished run; its folder lost ``.partial`` from its name.

    Raises:
        WouldNotFitError: Before anything is written: a stage does not fit this machine.
        DataError: Before anything is written: a row cannot be used.
        RunFolderError: ``unfinished`` cannot be resumed.
        StoppedError: Ctrl-C or SIGTERM came.
        Exception: What a package raises while a stage runs; the folder then keeps ``.partial`` in its name.
    """
    wait_passively()
    if not debug:
        (quieten_libraries if plan.slots == 1 else quieten)()
    config = plan.config
    texts = load_texts(config)
    rows = {name: len(part) for name, part in texts.items()}
    display.plan(plan, rows)
    plan.refuse_if_too_big()
    folder = RunFolder.new(config) if unfinished is None else RunFolder.reopen(unfinished, config)
    state = folder.state()
    context = RunContext(
        plan=plan,
        folder=folder,
        display=display,
        texts=texts,
        finished=state.finished,
        seconds=state.seconds,
        results=state.results,
    )
    for other in folder.unfinished() if unfinished is None else ():
        display.note(f"There is an unfinished run of the same. Resume it with: {_resume(other)}")
    context.read_labels(context.finished)
    started = time.monotonic()
    context.display = listeners(display, Forecast(plan, rows, _forecast(context, display)))
    folder.event("started", rows=rows, versions=versions())
    jobs = [job for job in jobs_of(config) if not until or job.stage in needed(config, until)]
    _run(context, jobs, display, debug=debug)
    if until:
        folder.release()
        return FinishedRun(path=folder.path, report=None, next_command=_resume(folder.path))
    report = write_report(context, seconds=time.monotonic() - started)
    path = folder.finish()
    return FinishedRun(path=path, report=report, next_command=_next_command(context, path))


def _forecast(context: RunContext, display: Display) -> Callable[[float], None]:
    def tell(seconds: float) -> None:
        context.forecast = seconds
        context.folder.event("forecast", seconds=round(seconds, 1))
        display.note(f"Forecast: about {seconds / 60:.1f} minutes for the whole run")

    return tell


def _run(context: RunContext, jobs: Sequence[Job], display: Display, *, debug: bool) -> None:
    """Do the jobs that are not finished; where one fails, say how to resume."""
    relay, resume = LogRelay(display), _resume(context.folder.path)
    try:
        with _sigterm_as_ctrl_c():
            run_jobs(context, jobs, run_stage, debug=debug)
    except KeyboardInterrupt as error:
        context.folder.event("stopped", reason="interrupted")
        raise StoppedError(f"interrupted. Resume with: {resume}") from error
    except Exception as error:
        context.folder.event("stopped", reason=f"{type(error).__name__}: {error}")
        display.note(f"Stopped. Finished stages are kept; once the cause is removed: {resume}")
        fix = _fix(context, error)
        if fix is not None:
            error.fix = fix  # type: ignore[attr-defined]  # the command line looks for it
        raise
    finally:
        relay.end()
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


def _fix(context: RunContext, error: Exception) -> str | None:
    """The command that runs a run again without what made a stage fail."""
    from distill_adapters import NonFiniteError, TrainConfig
    from distill_deploy import ExportRefusedError
    from distill_kd import NonFiniteLogitsError, WorseTeacherError

    folder, job = context.folder.path, context.current
    again = f"distill-train run {shlex.quote(str(folder / 'run.toml'))}"
    stage = None if job is None else context.plan.config.stages[job.stage]
    if job is not None and stage is not None:
        training, change = stage.training(), None
        if training and isinstance(error, NonFiniteError | NonFiniteLogitsError):
            rate = min(training.train.learning_rate / 10, TrainConfig().learning_rate)
            change = f"train.learning_rate={rate:g}"
        elif isinstance(error, WorseTeacherError):
            change = "accept_worse_teacher=true"
        elif isinstance(error, ExportRefusedError):
            change = "allow_failed=true"
        if change is not None and getattr(error, "field", None) != "teacher":
            return f"{again} --set stages.{job.stage}.{change}"
    # A stage that labels nothing labels nothing again.
    return again if str(folder) in str(error) and (stage is None or stage.makes != "data") else None


def shown(path: Path) -> str:
    """A path as short as it can be written in the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _resume(folder: Path) -> str:
    return f"distill-train resume {shlex.quote(shown(folder))}"


def _next_command(context: RunContext, path: Path) -> str | None:
    """What to type after a run: use its export, else evaluate its model."""
    exports = list(context.results.exports.values())
    if exports:
        rows = context.results.samples.rows
        text = "hello" if context.plan.task == "seq2seq" or not rows else rows[0].input
        return f"distill-edge run {shown(path / exports[0].path)} {shlex.quote(text)}"
    made, test = list((path / "models").glob("*")), context.plan.config.data.get("test")
    if not made or test is None:
        return None
    return f"distill-eval {shown(made[0])} --data {shown(Path(test.path))}"
