"""Jobs at the same time: each worker is a process that does one job after another."""

import contextlib
import io
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from distill_app_trainer.errors import WorkerError
from distill_app_trainer.plan.plan import RunPlan
from distill_app_trainer.plan.schedule import Job, ready
from distill_app_trainer.run.context import RunContext
from distill_app_trainer.run.folder import RunPaths

Work = Callable[[RunContext, Job], str]
_PATIENCE_S = 60.0  # a worker that is stopped while it trains finishes its step and saves


def run_jobs(context: RunContext, jobs: Sequence[Job], work: Work, *, debug: bool) -> None:
    """Do the jobs that are not finished, in this process or as many at once as the plan allows.

    Args:
        context: Its results and texts grow as jobs finish.
        jobs: Jobs, in the order of the run file.
        work: Does one job; a function of a module, since workers import it.
        debug: Let libraries warn.

    Raises:
        Exception: What a job raised; the others are stopped first.
        WorkerError: A worker exited without reporting an error.
    """
    waiting = [job for job in jobs if job.system not in context.finished]
    if context.plan.slots == 1:
        with contextlib.redirect_stdout(io.StringIO()):  # stdout is for the result alone
            for job in waiting:
                _run_here(context, job, work)
        return
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.job for worker in workers):
            for job in ready(context.plan.config, waiting, context.finished):
                if not _begin(context, job, work, workers, debug=debug):
                    break
                waiting.remove(job)
            busy = {worker.pipe: worker for worker in workers if worker.job is not None}
            for pipe in wait(list(busy)) if busy else ():
                busy[cast("Connection", pipe)].take()
    finally:
        for worker in workers:
            worker.end()


def _begin(context: RunContext, job: Job, work: Work, workers: "list[_Worker]", *, debug: bool) -> bool:
    """Begin a job if there is a free worker; what reads all results runs in this process, which has them."""
    if context.plan.config.stages[job.stage].reads_results:
        _run_here(context, job, work)
        return True
    idle = [worker for worker in workers if worker.job is None]
    if not idle and len(workers) < context.plan.slots:
        idle = [_Worker(context, work, debug=debug)]
        workers += idle
    if idle:
        idle[0].begin(job)
    return bool(idle)


def _run_here(context: RunContext, job: Job, work: Work) -> None:
    context.begin(job)
    context.current = job
    context.done(job, work(context, job))


class _Worker:
    """The main process' end of a worker."""

    def __init__(self, context: RunContext, work: Work, *, debug: bool) -> None:
        fresh = multiprocessing.get_context("spawn")
        self.pipe, far_end = fresh.Pipe()
        self.job: Job | None = None
        self._context = context
        arguments = (far_end, context.plan, context.folder.path, work, debug)
        self._process = fresh.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        far_end.close()

    def begin(self, job: Job) -> None:
        """Send a job."""
        self._context.begin(job)
        self.job = job
        self.pipe.send((job, self._context.results))

    def take(self) -> None:
        """Read one message of a busy worker and act on it."""
        job, context = cast("Job", self.job), self._context
        try:
            kind, arguments, facts = self.pipe.recv()
        except EOFError:
            self._process.join(_PATIENCE_S)
            raise WorkerError(
                f"The worker of {job.system} exited without reporting an error (exit code "
                f"{self._process.exitcode}), perhaps because memory ran out. Try --set "
                "hardware.parallel_stages=1."
            ) from None
        if kind == "failed":
            context.current = job
            raise arguments[0]
        if kind == "done":
            self.job = None
            context.done(job, *arguments)
        elif kind == "event":
            context.folder.event(*arguments, **facts)
        else:
            getattr(context.display, kind)(*arguments)

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


class _WorkerFolder(RunPaths):
    """The run folder as a worker has it: events go to the main process, which alone writes them."""

    def __init__(self, path: Path, pipe: Connection) -> None:
        super().__init__(path)
        self._pipe = pipe

    def event(self, event: str, **facts: object) -> None:
        """Send it."""
        self._pipe.send(("event", (event,), facts))


def _serve(pipe: Connection, plan: RunPlan, path: Path, work: Work, debug: bool) -> None:  # noqa: FBT001
    """Do jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process gets it too, and ends its workers
    signal.signal(signal.SIGTERM, _leave)
    from distill_adapters.quiet import quieten_libraries, wait_passively
    from distill_app_trainer.run.data import load_texts
    from distill_app_trainer.run.display import LogRelay
    from distill_app_trainer.run.listeners import Relay

    wait_passively()
    if not debug:
        quieten_libraries()
    display = Relay(lambda method, arguments: pipe.send((method, arguments, {})))
    LogRelay(display)
    folder, texts = _WorkerFolder(path, pipe), load_texts(plan.config)
    for job, results in iter(pipe.recv, None):
        context = RunContext(plan=plan, folder=folder, display=display, texts=texts, results=results)
        context.read_labels(plan.config.stages[job.stage].uses_data())
        try:
            summary = work(context, job)
        except BaseException as error:  # noqa: BLE001 - the main process decides
            pipe.send(("failed", (_sendable(error),), {}))
            return
        pipe.send(("done", (summary, context.results), {}))


def _leave(*_: object) -> None:
    raise SystemExit


def _sendable(error: BaseException) -> BaseException:
    import pickle

    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
    except Exception:  # noqa: BLE001 - whatever an exception of a library does there
        return WorkerError(f"{type(error).__name__}: {error}")
    return error
