"""What the stages of one run share."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill_adapters.throughput import PARTS
from distill_app_trainer.plan.plan import RunPlan
from distill_app_trainer.plan.schedule import Job, jobs_of
from distill_app_trainer.report.results import RunResults, TrainResult
from distill_app_trainer.run.folder import RunPaths, RunState
from distill_app_trainer.run.listeners import RunListener

if TYPE_CHECKING:
    from datasets import Dataset

    from distill_adapters import LoadedModel
    from distill_hwdetect import ExecutionPolicy


@dataclass(kw_only=True)
class RunContext:
    """What the stages of one run share.

    Attributes:
        plan: What was decided before.
        folder: Where everything is written.
        display: Who is told what happens.
        texts: Raw texts by name; pseudo_label stages add theirs.
        current: The job that this process does, or that failed in a worker.
        finished: Names of finished jobs.
        seconds: The duration of each finished job.
        started: When each job began that has begun.
        forecast: Seconds that the whole run was expected to take, once that was known.
        results: What the stages found.
    """

    plan: RunPlan
    folder: RunPaths
    display: RunListener
    texts: "dict[str, Dataset]"
    current: Job | None = None
    finished: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    forecast: float | None = None
    results: RunResults = field(default_factory=RunResults)

    def begin(self, job: Job) -> None:
        """Report that a job begins."""
        stage = self.plan.config.stages[job.stage]
        self.display.stage(job.system, stage.kind, job.number, len(jobs_of(self.plan.config)))
        self.folder.event("stage", stage=job.system, kind=stage.kind)
        self.started[job.system] = time.monotonic()

    def done(self, job: Job, summary: str, results: RunResults | None = None) -> None:
        """Report that a job is finished, and keep what a worker found."""
        if results is not None:
            self.results.add(results)
        self.read_labels((job.stage,))
        seconds = time.monotonic() - self.started[job.system]
        self.folder.event("stage_done", stage=job.system, seconds=round(seconds, 3))
        self.finished.append(job.system)
        self.seconds[job.system] = round(seconds, 2)
        self.folder.save_state(RunState(finished=self.finished, seconds=self.seconds, results=self.results))
        self.display.stage_done(job.system, summary, seconds)

    def read_labels(self, names: Iterable[str]) -> None:
        """Read what those of the named stages wrote that make data."""
        from distill_datakit import read_generations

        for name in names:
            stage = self.plan.config.stages.get(name)
            if stage is not None and stage.makes == "data" and name not in self.texts:
                self.texts[name] = read_generations(self.folder.labels(name))

    def path_of(self, name: str) -> Path:
        """The folder of a saved model of the file, or of what a stage made."""
        from distill_adapters import fetch_model

        if name in self.plan.config.models:
            return fetch_model(str(self.plan.config.models[name].path))
        return self.folder.model(name)

    def load(self, name: str, policy: "ExecutionPolicy") -> "LoadedModel":
        """Load a model that is only run."""
        from distill_adapters import load_model

        return load_model(self.path_of(name), policy, self.plan.task, training=False)

    def progress(self, stage: str, result: TrainResult) -> Callable[[dict[str, float]], None]:
        """A function that tells the display about each step, and the event file about every tenth.

        Args:
            stage: The name of the job.
            result: Its curves and its memory are written here.
        """

        def tell(facts: dict[str, float]) -> None:
            self.display.progress(stage, facts)
            step, total = int(facts.get("step", 0)), int(facts.get("total_steps", 0))
            if step in (1, total) or step % 10 == 0:
                self.folder.event("step", stage=stage, **facts)
                result.memory_bytes = max(int(facts.get("memory_bytes", 0)), result.memory_bytes)
                for part in PARTS:
                    if part in facts:
                        result.curves.setdefault(part, []).append((step, round(float(facts[part]), 5)))

        return tell
