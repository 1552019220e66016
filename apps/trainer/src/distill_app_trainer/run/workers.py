"""Jobs side by side: each lane is a process that takes one job after the other and tells the parent of it."""

import contextlib
import io
import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.errors import LaneError
from distill_app_trainer.plan.plan import RunPlan
from distill_app_trainer.plan.schedule import Job, ready
from distill_app_trainer.run.folder import RunPaths
from distill_app_trainer.runfile.references import used_data

if TYPE_CHECKING:
    from distill_app_trainer.run.context import Workbench

Work = Callable[["Workbench", Job], str]
_PATIENCE_S = 60.0  # a lane that is stopped while it trains finishes its step and saves


def walk(bench: "Workbench", jobs: Sequence[Job], work: Work, *, debug: bool) -> None:
    """Do the jobs that are not over, in this process or as many at once as the plan says.

    Args:
        bench: Its results and texts grow as jobs end.
        jobs: In the order of the run file.
        work: Does one job; a function of a module, since lanes import it.
        debug: Let libraries warn.

    Raises:
        Exception: What a job raised; the others are stopped first.
        LaneError: A process ended without a word.
    """
    waiting = [job for job in jobs if job.system not in bench.over]
    if bench.plan.slots == 1:
        with contextlib.redirect_stdout(io.StringIO()):  # stdout is the result's alone
            for job in waiting:
                _here(bench, job, work)
        return
    lanes: list[_Lane] = []
    try:
        while waiting or any(lane.job for lane in lanes):
            for job in ready(bench.plan.config, waiting, bench.over):
                if not _begin(bench, job, work, lanes, debug=debug):
                    break
                waiting.remove(job)
            busy = {lane.pipe: lane for lane in lanes if lane.job is not None}
            for pipe in wait(list(busy)) if busy else ():
                assert isinstance(pipe, Connection)  # noqa: S101 - as it was given
                busy[pipe].take()
    finally:
        for lane in lanes:
            lane.end()


def _begin(bench: "Workbench", job: Job, work: Work, lanes: "list[_Lane]", *, debug: bool) -> bool:
    """Begin a job where there is room; reports are written here, where all results are."""
    if bench.plan.config.stages[job.stage].kind == "report":
        _here(bench, job, work)
        return True
    idle = [lane for lane in lanes if lane.job is None]
    if not idle and len(lanes) < bench.plan.slots:
        idle = [_Lane(bench, work, debug=debug)]
        lanes += idle
    if idle:
        idle[0].begin(job)
    return bool(idle)


def _here(bench: "Workbench", job: Job, work: Work) -> None:
    bench.begin(job)
    bench.at = job
    bench.done(job, work(bench, job), {})


class _Lane:
    """The parent's end of a process."""

    def __init__(self, bench: "Workbench", work: Work, *, debug: bool) -> None:
        fresh = multiprocessing.get_context("spawn")
        self.pipe, theirs = fresh.Pipe()
        self.job: Job | None = None
        self._bench = bench
        arguments = (theirs, bench.plan, bench.folder.path, work, debug)
        self._process = fresh.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, job: Job) -> None:
        """Give the process a job."""
        self._bench.begin(job)
        self.job = job
        self.pipe.send((job, self._bench.results))

    def take(self) -> None:
        """Read one message and act on it."""
        assert self.job is not None  # noqa: S101 - only busy lanes are read
        try:
            kind, args, kwargs = self.pipe.recv()
        except EOFError:
            self._process.join(_PATIENCE_S)
            raise LaneError(
                f"The process of {self.job.system} ended without a word (exit code "
                f"{self._process.exitcode}), perhaps for its memory. Try --set hardware.parallel_stages=1."
            ) from None
        bench = self._bench
        if kind == "failed":
            bench.at = self.job
            raise args[0]
        if kind == "done":
            job, self.job = self.job, None
            bench.done(job, *args)
            return
        tell = bench.folder.event if kind == "event" else getattr(bench.display, kind)
        tell(*args, **kwargs)

    def end(self) -> None:
        """End the process."""
        if self.job is None:
            with contextlib.suppress(OSError):
                self.pipe.send(None)
        else:
            self._process.terminate()
        self._process.join(_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
        self.pipe.close()


class _TellingFolder(RunPaths):
    """The run folder as a lane has it: events go to the parent, who alone writes them."""

    def __init__(self, path: Path, pipe: Connection) -> None:
        super().__init__(path)
        self._pipe = pipe

    def event(self, event: str, **facts: object) -> None:
        """Tell the parent."""
        self._pipe.send(("event", (event,), facts))


class _TellingDisplay:
    """The display as a lane has it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def note(self, text: str) -> None:
        """Tell the parent."""
        self._pipe.send(("note", (text,), {}))

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        """Tell the parent."""
        self._pipe.send(("stage", (name, kind, number, total), {}))

    def progress(self, name: str, facts: Mapping[str, float]) -> None:
        """Tell the parent."""
        self._pipe.send(("progress", (name, dict(facts)), {}))

    def stage_done(self, name: str, text: str, seconds: float) -> None:
        """Tell the parent."""
        self._pipe.send(("stage_done", (name, text, seconds), {}))


def _serve(pipe: Connection, plan: RunPlan, path: Path, work: Work, debug: bool) -> None:  # noqa: FBT001
    """Take jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends its lanes
    signal.signal(signal.SIGTERM, _leave)
    from distill_app_trainer.run.display import Talk
    from distill_app_trainer.run.quiet import quieten_libraries, wait_asleep

    wait_asleep()
    if not debug:
        quieten_libraries()
    from distill_app_trainer.run.context import Workbench
    from distill_app_trainer.run.data import load_texts

    display = _TellingDisplay(pipe)
    folder = _TellingFolder(path, pipe)
    Talk(display)
    texts = load_texts(plan.config)
    for job, results in iter(pipe.recv, None):
        bench = Workbench(plan=plan, folder=folder, display=display, texts=texts, results=results)
        bench.read_labels(used_data(plan.config.stages[job.stage]))
        try:
            said = work(bench, job)
        except BaseException as error:  # noqa: BLE001 - the parent decides
            pipe.send(("failed", (_sendable(error),), {}))
            return
        pipe.send(("done", (said, bench.results), {}))


def _leave(*_: object) -> None:
    raise SystemExit


def _sendable(error: BaseException) -> BaseException:
    import pickle

    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
    except Exception:  # noqa: BLE001 - whatever an exception of a library does there
        return LaneError(f"{type(error).__name__}: {error}")
    return error
