"""The stages of a run as jobs: what each waits for, and which can run at the same time."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from distill_app_trainer.runfile.references import before, variants
from distill_app_trainer.runfile.schema import RunConfig


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage, or one of the seeds that it is repeated with.

    Attributes:
        number: Its place in the run, from 1.
        stage: The name of the stage.
        system: The name of what it makes.
        seed: The seed of everything random in it.
    """

    number: int
    stage: str
    system: str
    seed: int


def jobs_of(config: RunConfig) -> tuple[Job, ...]:
    """Every job, in the order of the file."""
    pairs = [(name, *variant) for name in config.stages for variant in variants(config, name)]
    return tuple(
        Job(number=number, stage=name, system=system, seed=seed)
        for number, (name, system, seed) in enumerate(pairs, start=1)
    )


def waits_for(config: RunConfig, stage: str) -> frozenset[str]:
    """The stages that must be finished before one begins."""
    named = config.stages[stage]
    if named.reads_results:
        return frozenset(name for name, _ in before(config, stage))
    names = {name for _, name in named.uses_models()} | set(named.uses_data())
    return frozenset(names & set(config.stages))


def side_by_side(config: RunConfig, stage: str) -> int:
    """How many jobs of this run can run while ``stage`` does: 1 when all others wait or are finished.

    Counted by the distance of jobs from the start: those at the same distance need not wait for each other.
    """
    jobs = [job for job in jobs_of(config) if config.stages[job.stage].parallel]
    if not any(job.stage == stage for job in jobs):
        return 1
    peers = [job for job in jobs if job.stage != stage and _independent(config, stage, job.stage)]
    if not peers and sum(job.stage == stage for job in jobs) == 1:
        return 1
    depths = [_depth(config, job.stage) for job in jobs]
    return max(depths.count(depth) for depth in depths)


def ready(config: RunConfig, waiting: Sequence[Job], finished: Collection[str]) -> list[Job]:
    """The waiting jobs for which everything that they wait for is finished.

    Args:
        config: The run.
        waiting: Jobs.
        finished: Names of finished jobs.
    """
    running = {job.stage for job in jobs_of(config) if job.system not in finished}
    return [job for job in waiting if not waits_for(config, job.stage) & running]


def needed(config: RunConfig, stages: Collection[str]) -> set[str]:
    """Stages, and all that they wait for."""
    return set(stages).union(*(_all_before(config, stage) for stage in stages))


def _independent(config: RunConfig, first: str, second: str) -> bool:
    return first not in _all_before(config, second) and second not in _all_before(config, first)


def _all_before(config: RunConfig, stage: str) -> set[str]:
    found: set[str] = set()
    for name in waits_for(config, stage):
        found |= {name} | _all_before(config, name)
    return found


def _depth(config: RunConfig, stage: str) -> int:
    return 1 + max((_depth(config, name) for name in waits_for(config, stage)), default=0)
