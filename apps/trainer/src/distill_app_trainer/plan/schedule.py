"""The stages of a run as jobs: what each waits for, and which need not wait for each other."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from distill_app_trainer.runfile.references import before, used_data, used_models, variants
from distill_app_trainer.runfile.schema import (
    CacheTeacherStage,
    DistillStage,
    FinetuneStage,
    PseudoLabelStage,
    ReportStage,
    RunConfig,
)

LONG = (FinetuneStage, DistillStage, PseudoLabelStage, CacheTeacherStage)
"""Stages that take long enough to run beside each other."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage, or one of the seeds it is repeated with.

    Attributes:
        number: Its place in the run, from 1.
        stage: The stage's name.
        system: What it makes is called.
        seed: Of everything random in it.
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
    """The stages that must be over before one begins; a report waits for all that stand before it."""
    named = config.stages[stage]
    if isinstance(named, ReportStage):
        return frozenset(name for name, _ in before(config, stage))
    names = {name for _, name in used_models(named)} | set(used_data(named))
    return frozenset(names & set(config.stages))


def side_by_side(config: RunConfig, stage: str) -> int:
    """How many jobs of this run can be under way while ``stage`` is: 1 when all others wait or have been.

    Counted by how far jobs are from the start: those equally far need not wait for each other.
    """
    jobs = [job for job in jobs_of(config) if isinstance(config.stages[job.stage], LONG)]
    if not any(job.stage == stage for job in jobs):
        return 1
    peers = [job for job in jobs if job.stage != stage and _apart(config, stage, job.stage)]
    baselines = sum(job.stage == stage for job in jobs)
    if not peers and baselines == 1:
        return 1
    depths = [_depth(config, job.stage) for job in jobs]
    return max(depths.count(depth) for depth in depths)


def ready(config: RunConfig, waiting: Sequence[Job], over: Collection[str]) -> list[Job]:
    """The waiting jobs of which all that they wait for is over.

    Args:
        config: The run.
        waiting: Jobs.
        over: What the jobs that are over are called.
    """
    under_way = {job.stage for job in jobs_of(config) if job.system not in over}
    return [job for job in waiting if not waits_for(config, job.stage) & under_way]


def needed(config: RunConfig, stages: Collection[str]) -> set[str]:
    """Stages, and all that they wait for."""
    return set(stages).union(*(_all_before(config, stage) for stage in stages))


def _apart(config: RunConfig, first: str, second: str) -> bool:
    return first not in _all_before(config, second) and second not in _all_before(config, first)


def _all_before(config: RunConfig, stage: str) -> set[str]:
    found: set[str] = set()
    for name in waits_for(config, stage):
        found |= {name} | _all_before(config, name)
    return found


def _depth(config: RunConfig, stage: str) -> int:
    return 1 + max((_depth(config, name) for name in waits_for(config, stage)), default=0)
