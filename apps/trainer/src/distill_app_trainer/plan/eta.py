"""How long a run will take, from the rates of its first seconds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distill_app_trainer.plan.plan import RunPlan
from distill_app_trainer.plan.schedule import Job, jobs_of, ready
from distill_app_trainer.runfile.references import origin_name, row_counter, variants

_MEASURED_S = 3.0  # a rate counts once it was watched for this long
_EVERY_S = 1.0  # between two attempts


@dataclass
class _Watched:
    """A job that has begun: when its steps were first and last heard of."""

    began: float
    first: tuple[float, int] | None = None
    last: tuple[float, int] = (0.0, 0)
    total: int = 0
    seconds: float | None = None

    def rate(self) -> float | None:
        """Seconds a step, or None before enough was seen."""
        if self.first is None:
            return None
        took, steps = self.last[0] - self.first[0], self.last[1] - self.first[1]
        return took / steps if steps and took >= _MEASURED_S else None


class Forecast:
    """Listens to a run and says once, as early as it can, how long all of it will take.

    A job that has begun goes on at its own rate. One that has not takes, for each row and parameter, what
    another of its kind takes: training for training; labelling for whatever runs a model.

    Args:
        plan: The run.
        rows: Rows of its files by name.
        say: Is told the seconds, once.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        plan: RunPlan,
        rows: Mapping[str, int],
        say: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._rows, self._say, self._clock = plan, dict(rows), say, clock
        self._began = clock()
        self._watched: dict[str, _Watched] = {}
        self._said = False
        self._tried = self._began

    def note(self, text: str) -> None:
        """Nothing to learn."""

    def stage(self, name: str, kind: str, number: int, total: int) -> None:  # noqa: ARG002
        """A job begins."""
        self._watched[name] = _Watched(began=self._clock())

    def progress(self, name: str, facts: Mapping[str, float]) -> None:
        """Watch a step; forecast when all that is needed has been seen."""
        watched, now = self._watched[name], self._clock()
        watched.total, step = int(facts.get("total_steps", 0)), int(facts.get("step", 0))
        watched.first = watched.first or (now, step)
        watched.last = (now, step)
        if self._said or now - self._tried < _EVERY_S:
            return
        self._tried = now
        if (seconds := self.seconds()) is not None:
            self._said = True
            self._say(seconds)

    def stage_done(self, name: str, text: str, seconds: float) -> None:  # noqa: ARG002
        """A job is over."""
        self._watched[name].seconds = seconds

    def seconds(self) -> float | None:
        """Seconds that the whole run takes, from its beginning; None before it can be known."""
        left = {job: self._left(job) for job in jobs_of(self._plan.config)}
        if any(value is None for value in left.values()):
            return None
        known = {job: float(value or 0.0) for job, value in left.items()}
        return self._clock() - self._began + together(self._plan, known, self._under_way())

    def _under_way(self) -> list[Job]:
        return [
            job
            for job in jobs_of(self._plan.config)
            if job.system in self._watched and self._watched[job.system].seconds is None
        ]

    def _left(self, job: Job) -> float | None:
        """Seconds that are left of a job."""
        watched = self._watched.get(job.system)
        if watched is not None and watched.seconds is not None:
            return 0.0
        if watched is not None and (rate := watched.rate()) is not None:
            return rate * (watched.total - watched.last[1])
        training, work = self._work(job)
        if not work:
            return 0.0
        for other in jobs_of(self._plan.config):
            seen = self._watched.get(other.system)
            also_training, its_work = self._work(other)
            if seen is None or also_training != training or not its_work:
                continue
            if (rate := seen.rate()) is not None:
                return rate * seen.total * work / its_work
        return None

    def _work(self, job: Job) -> tuple[bool, float]:
        """Whether a job trains, and how much there is to do: rows times millions of parameters."""
        config = self._plan.config
        work = config.stages[job.stage].work(row_counter(config, self._rows))
        if work is None:
            return False, 0.0
        size = sum(
            self._plan.facts[origin_name(config, name)].parameters
            / 1e6
            * (len(variants(config, name)) if work.each_seed else 1)
            for name in work.models
        )
        return work.training, work.rows * size


def together(plan: RunPlan, left: Mapping[Job, float], under_way: Sequence[Job] = ()) -> float:
    """Seconds until the last job ends when at most ``plan.slots`` run at once."""
    waiting = [job for job in left if job not in under_way and left[job] > 0]
    over = [job.system for job in left if job not in under_way and left[job] == 0]
    running = {job: left[job] for job in under_way}
    now = 0.0
    while waiting or running:
        for job in ready(plan.config, waiting, over)[: plan.slots - len(running)]:
            waiting.remove(job)
            running[job] = left[job]
        if not running:
            break
        step = min(running.values())
        now += step
        ended = [job for job, seconds in running.items() if seconds <= step]
        running = {job: seconds - step for job, seconds in running.items() if job not in ended}
        over += [job.system for job in ended]
    return now
