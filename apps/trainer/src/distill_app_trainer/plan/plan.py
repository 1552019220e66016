"""What a run will do on this machine: a policy for every stage, before torch is imported."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_app_trainer.errors import Fix, RunFileError, SetKey, WouldNotFitError
from distill_app_trainer.plan.disk import check_disk
from distill_app_trainer.plan.schedule import side_by_side
from distill_app_trainer.plan.smaller import smaller_runs
from distill_app_trainer.runfile.references import live_teacher, origin
from distill_app_trainer.runfile.schema import RunConfig
from distill_app_trainer.runfile.sizes import model_facts
from distill_app_trainer.runfile.stage import Task

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy, HardwareProfile, ModelFacts, Requirements

_DEFAULT_LENGTH = 128
_WITHOUT_TRAINING = frozenset(
    ("device", "compute_dtype", "storage_dtype", "attention", "threads", "workers", "ipex", "parallel_stages")
)
"""Fields of ``[hardware]`` that mean something where nothing is trained."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What will be done, where, and why.

    Attributes:
        config: The run.
        task: What its models do.
        profile: This machine.
        facts: Sizes of the models of the file.
        policies: For each stage that trains or runs a model.
    """

    config: RunConfig
    task: Task
    profile: "HardwareProfile"
    facts: Mapping[str, "ModelFacts"]
    policies: Mapping[str, "ExecutionPolicy"]

    @property
    def slots(self) -> int:
        """Jobs that run at once: what the policies of those allow that can."""
        allowed = [
            policy.parallel_stages.value
            for name, policy in self.policies.items()
            if side_by_side(self.config, name) > 1
        ]
        return min(allowed, default=1)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        return {
            "task": self.task,
            "machine": self.profile.to_dict(),
            "models": {name: dataclasses.asdict(facts) for name, facts in self.facts.items()},
            "policies": {name: policy.to_dict() for name, policy in self.policies.items()},
        }

    def refuse_if_too_big(self) -> None:
        """Refuse a run of which a stage does not fit.

        Raises:
            WouldNotFitError: Names the stage, what it needs, what there is, and what would help.
        """
        for name, policy in self.policies.items():
            memory = policy.memory
            if not memory.fits and memory.budget_bytes is not None:
                raise WouldNotFitError(
                    f"stages.{name} needs {memory.total_bytes / 1e9:.1f} GB, and "
                    f"{memory.budget_bytes / 1e9:.1f} GB may be used here. Take a smaller model, shorter "
                    "data.limits or a machine with more memory.",
                    fix=self._smaller(name),
                )
        check_disk(self.config, {name: facts.parameters for name, facts in self.facts.items()})

    def _smaller(self, stage: str) -> Fix | None:
        """The mildest change with which a stage fits, or None."""
        for fix, config in smaller_runs(self.config, stage):
            try:
                made = make_plan(config, self.task, profile=self.profile)
            except (RunFileError, ValueError):  # a size that this architecture cannot have
                continue
            if made.policies[stage].memory.fits:
                return fix
        return None


def make_plan(config: RunConfig, task: Task, *, profile: "HardwareProfile | None" = None) -> RunPlan:
    """Look at this machine and decide for every stage how its models run.

    Args:
        config: A checked run.
        task: What its models do.
        profile: The machine; None looks at this one.

    Raises:
        RunFileError: A field of ``[hardware]`` cannot work here, or together with another.
    """
    from distill_hwdetect import UnsupportedPolicyError, choose_policy, detect

    profile = profile or detect()

    def policies_of(one: RunConfig) -> "dict[str, ExecutionPolicy]":
        return {
            name: choose_policy(profile, requirements(one, task, name))
            for name, stage in one.stages.items()
            if stage.uses_models()
        }

    try:
        policies = policies_of(config)
    except UnsupportedPolicyError as error:
        for fix, other in _left_to_the_policy(config):
            with contextlib.suppress(UnsupportedPolicyError):
                policies_of(other)
                raise RunFileError(f"[hardware]: {error}", fix=fix) from None
        raise
    facts = {name: model_facts(config, source) for name, source in config.models.items()}
    return RunPlan(config=config, task=task, profile=profile, facts=facts, policies=policies)


def _left_to_the_policy(config: RunConfig) -> Iterator[tuple[Fix, RunConfig]]:
    """The run with one choice of the user left to the policy."""
    for name in config.hardware:
        fewer = {key: value for key, value in config.hardware.items() if key != name}
        yield SetKey(("hardware", name), "auto"), dataclasses.replace(config, hardware=fewer)
    for name, source in config.models.items():
        if source.adapter != "auto":
            free = dataclasses.replace(source, adapter="auto")
            models = {**config.models, name: free}
            yield SetKey(("models", name, "adapter"), "auto"), dataclasses.replace(config, models=models)


def requirements(config: RunConfig, task: Task, name: str) -> "Requirements":
    """What a stage asks of the machine."""
    from distill_hwdetect import Requirements

    stage = config.stages[name]
    training = stage.training()
    sources = [origin(config, used) for _, used in stage.uses_models()]
    asked = Requirements(
        task=task,
        model=max((model_facts(config, one) for one in sources), key=lambda facts: facts.parameters),
        training=False,
        overrides={key: value for key, value in config.hardware.items() if key in _WITHOUT_TRAINING},
        source_length=config.limits.max_source_length or _DEFAULT_LENGTH,
        target_length=config.limits.max_target_length or _DEFAULT_LENGTH,
        side_by_side=side_by_side(config, name),
    )
    if training is None:
        return asked
    source, teacher = origin(config, training.model), live_teacher(config, stage)
    return dataclasses.replace(
        asked,
        model=model_facts(config, source),
        teacher=None if teacher is None else model_facts(config, origin(config, teacher)),
        training=True,
        effective_batch=training.train.batch_size,
        adapter="full"
        if source.config is not None
        else source.adapter,  # a fresh model has no weights to adapt
        overrides=config.hardware,
    )
