"""What the stages of one run share."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.plan.plan import RunPlan
from distill_app_trainer.plan.schedule import Job, jobs_of
from distill_app_trainer.run.display import Teller
from distill_app_trainer.run.folder import RunPaths
from distill_app_trainer.run.throughput import PARTS
from distill_app_trainer.runfile.hub import fetched
from distill_app_trainer.runfile.schema import PseudoLabelStage

if TYPE_CHECKING:
    from datasets import Dataset

    from distill_adapters import LoadedModel
    from distill_hwdetect import ExecutionPolicy


@dataclass(kw_only=True)
class Workbench:
    """What the stages of one run share.

    Attributes:
        plan: What was decided before.
        folder: Where everything is written.
        display: Who tells a person.
        at: The job that this process does, or that failed in another.
        over: What the jobs that are over are called.
        seconds: What each of them took.
        started: When those began that have begun.
        texts: Raw texts by name; pseudo_label stages add theirs.
        forecast: Seconds that the whole run was expected to take, once that was known.
        results: What the stages measured, for the report: ``systems, evaluations, comparisons, stages,
            exports, samples, cut``.
    """

    plan: RunPlan
    folder: RunPaths
    display: Teller
    texts: "dict[str, Dataset]"
    forecast: float | None = None
    results: dict[str, dict[str, object]] = field(
        default_factory=lambda: {
            key: {}
            for key in ("systems", "evaluations", "comparisons", "stages", "exports", "samples", "cut")
        }
    )
    at: Job | None = None
    over: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)

    def begin(self, job: Job) -> None:
        """Say that a job begins."""
        stage = self.plan.config.stages[job.stage]
        self.display.stage(job.system, stage.kind, job.number, len(jobs_of(self.plan.config)))
        self.folder.event("stage", stage=job.system, kind=stage.kind)
        self.started[job.system] = time.monotonic()

    def done(self, job: Job, said: str, results: Mapping[str, Mapping[str, object]]) -> None:
        """Say that a job is over, and keep what another process found."""
        for key, found in results.items():
            self.results[key] |= found
        self.read_labels((job.stage,))
        seconds = time.monotonic() - self.started[job.system]
        self.folder.event("stage_done", stage=job.system, seconds=round(seconds, 3))
        self.over.append(job.system)
        self.seconds[job.system] = round(seconds, 2)
        self.folder.save_state({"over": self.over, "results": self.results, "seconds": self.seconds})
        self.display.stage_done(job.system, said, seconds)

    def read_labels(self, names: Iterable[str]) -> None:
        """Read the answers of those of the named stages that label."""
        from distill_datakit import read_generations

        for name in names:
            if isinstance(self.plan.config.stages.get(name), PseudoLabelStage) and name not in self.texts:
                self.texts[name] = read_generations(self.folder.labels(name))

    def path_of(self, name: str) -> Path:
        """The folder of a saved model of the file, or of what a stage made."""
        if name in self.plan.config.models:
            return fetched(str(self.plan.config.models[name].path))
        return self.folder.model(name)

    def load(self, name: str, policy: "ExecutionPolicy") -> "LoadedModel":
        """A model that is only run."""
        from distill_adapters import load_model

        return load_model(self.path_of(name), policy, self.plan.task, training=False)

    def progress(self, stage: str) -> Callable[[dict[str, float]], None]:
        """Who is told about each step: the display, and about every tenth the file of events."""

        def tell(facts: dict[str, float]) -> None:
            self.display.progress(stage, facts)
            step, total = int(facts.get("step", 0)), int(facts.get("total_steps", 0))
            if step in (1, total) or step % 10 == 0:
                self.folder.event("step", stage=stage, **facts)
                entry = self.results["stages"].setdefault(stage, {})
                assert isinstance(entry, dict)  # noqa: S101 - made in the line above
                entry["memory_bytes"] = max(int(facts.get("memory_bytes", 0)), entry.get("memory_bytes", 0))
                for part in PARTS:
                    if part in facts:
                        curve = entry.setdefault("curves", {}).setdefault(part, [])
                        curve.append([step, round(float(facts[part]), 5)])

        return tell
