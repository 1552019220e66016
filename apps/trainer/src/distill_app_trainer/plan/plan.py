"""What a run will do on this machine: a policy for every stage, before torch is imported."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill_app_trainer.checks.room import check_disk, what_would_fit
from distill_app_trainer.errors import Fix, RunFileError, Setting, WouldNotFitError
from distill_app_trainer.plan.schedule import side_by_side
from distill_app_trainer.runfile.hub import described
from distill_app_trainer.runfile.references import origin, tokenizer_of, used_models
from distill_app_trainer.runfile.schema import (
    CacheTeacherStage,
    DistillStage,
    FinetuneStage,
    ModelSource,
    RunConfig,
    Task,
)

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy, HardwareProfile, ModelFacts, Requirements

_DEFAULT_LENGTH = 128


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
            int(str(policy.value("parallel_stages")))
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
        for fix, config in what_would_fit(self.config, stage):
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
            if used_models(stage)
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
        yield Setting(("hardware", name), "auto"), dataclasses.replace(config, hardware=fewer)
    for name, source in config.models.items():
        if source.adapter != "auto":
            free = dataclasses.replace(source, adapter="auto")
            models = {**config.models, name: free}
            yield Setting(("models", name, "adapter"), "auto"), dataclasses.replace(config, models=models)


def requirements(config: RunConfig, task: Task, name: str) -> "Requirements":
    """What a stage asks of the machine."""
    from distill_hwdetect import Requirements

    stage = config.stages[name]
    biggest = max(
        (origin(config, used) for _, used in used_models(stage)),
        key=lambda source: model_facts(config, source).parameters,
    )
    source_length = config.limits.max_source_length or _DEFAULT_LENGTH
    target_length = config.limits.max_target_length or _DEFAULT_LENGTH
    if not isinstance(stage, FinetuneStage | DistillStage):
        return Requirements(
            task=task,
            model=model_facts(config, biggest),
            training=False,
            overrides=_running(config.hardware),
            source_length=source_length,
            target_length=target_length,
            side_by_side=side_by_side(config, name),
        )
    source = origin(config, stage.model)
    live = isinstance(stage, DistillStage) and not isinstance(
        config.stages.get(stage.teacher), CacheTeacherStage
    )
    teacher = origin(config, stage.teacher) if isinstance(stage, DistillStage) and live else None
    return Requirements(
        task=task,
        model=model_facts(config, source),
        teacher=None if teacher is None else model_facts(config, teacher),
        effective_batch=stage.train.batch_size,
        adapter=adapter_of(source),
        overrides=config.hardware,
        source_length=source_length,
        target_length=target_length,
        side_by_side=side_by_side(config, name),
    )


def adapter_of(source: ModelSource) -> Literal["auto", "full", "lora", "qlora"]:
    """What is trained of a model: a fresh one has no weights to adapt."""
    return "full" if source.config is not None else source.adapter


def _running(hardware: Mapping[str, object]) -> dict[str, object]:
    """Overrides that mean something where nothing is trained."""
    kept = (
        "device",
        "compute_dtype",
        "storage_dtype",
        "attention",
        "threads",
        "workers",
        "ipex",
        "parallel_stages",
    )
    return {name: value for name, value in hardware.items() if name in kept}


def model_facts(config: RunConfig, source: ModelSource) -> "ModelFacts":
    """The size of a model of the file, from its configuration alone."""
    from distill_hwdetect import read_model_facts

    if source.path is not None:
        return read_model_facts(_with_config(described(source.path, "models")))
    content = dict(source.config or {})
    size = vocabulary_size(described(tokenizer_of(config, source), "models"))
    if size is not None:
        content["vocab_size"] = size
    return read_model_facts(content)


def _with_config(folder: Path) -> Path:
    """The folder of the configuration: an adapter's is that of its base."""
    if (folder / "config.json").is_file() or not (folder / "adapter_config.json").is_file():
        return folder
    content = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = Path(str(content.get("base_model_name_or_path", "")))
    return base if base.is_absolute() else folder / base


def vocabulary_size(tokenizer: Path) -> int | None:
    """Ids that a saved fast tokenizer knows, read without loading it; None when it says nothing."""
    file = tokenizer / "tokenizer.json"
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = content.get("model", {}).get("vocab", {})
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
    ids += [token["id"] for token in content.get("added_tokens", [])]
    return max(ids) + 1 if ids else None
