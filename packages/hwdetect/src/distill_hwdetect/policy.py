"""Requirements of a model, and the policy that answers them: one choice per field, each with its reason."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from distill_hwdetect.errors import ArgumentError, UnknownFieldError
from distill_hwdetect.memory import MemoryEstimate, estimate, weight_bytes
from distill_hwdetect.models import ModelFacts
from distill_hwdetect.refusals import check_one_of, nearest
from distill_hwdetect.tasks import TASKS, Task
from distill_hwdetect.workload import Distillation, Workload

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a model has to do on the machine.

    Args:
        task: ``causal``, ``seq2seq`` or ``masked``.
        model: The size of the model that is trained or run.
        training: Whether the model is trained; False means that it is only run.
        teacher: The size of the teacher, in distillation.
        distillation: How the teacher's logits are obtained: ``chunked`` (for a part of the positions at a
            time), ``full`` (for all positions at once), or ``cached`` (read from disk, so that the teacher is
            not in memory).
        effective_batch: Examples per optimizer step. The policy keeps this number, however little memory
            there is.
        source_length: Tokens of an input (of the whole text for ``causal`` and ``masked``).
        target_length: Tokens of an output, used for ``seq2seq`` and for generation.
        adapter: What is trained. ``auto`` trains an adapter of the pretrained model, never all its weights.
        overrides: Policy fields that the user sets, by name. ``"auto"`` leaves a field to the rules.
        pretokenized: Whether the data is already tokenized; False means that workers tokenize it during
            training.
        side_by_side: Number of stages of the run, including this one, that do not depend on each other.

    Raises:
        ArgumentError: A number is below 1, or a name is not one of those above; also a ``ValueError``.
    """

    task: Task
    model: ModelFacts
    training: bool = True
    teacher: ModelFacts | None = None
    distillation: Literal["chunked", "full", "cached"] = "chunked"
    effective_batch: int = 8
    source_length: int = 128
    target_length: int = 128
    adapter: Literal["auto", "full", "lora", "qlora"] = "auto"
    overrides: Mapping[str, object] = field(default_factory=dict)
    pretokenized: bool = True
    side_by_side: int = 1

    def __post_init__(self) -> None:
        """Check numbers and names."""
        for name in ("effective_batch", "source_length", "target_length", "side_by_side"):
            number = getattr(self, name)
            if not isinstance(number, int) or number < 1:
                raise ArgumentError(
                    f"{name} must be a whole number of at least 1, found {number!r}.",
                    field=name,
                    found=number,
                    suggestion=1,
                )
        check_one_of("task", self.task, TASKS)
        check_one_of("distillation", self.distillation, ("chunked", "full", "cached"))
        check_one_of("adapter", self.adapter, ("auto", "full", "lora", "qlora"))


@dataclass(frozen=True, kw_only=True)
class Choice(Generic[T_co]):
    """One field of a policy; ``policy.threads`` is a ``Choice[int]``.

    Args:
        value: What was chosen.
        rule: Identifier of the rule that decided, or ``override`` if the user did.
        reason: Why, in a sentence that names the facts of this machine.
        source: Where the rule comes from: a measurement, a paper or a report.
        rejected: Pairs of an alternative and the reason against it.
    """

    value: T_co
    rule: str
    reason: str
    source: str
    rejected: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types."""
        return {**dataclasses.asdict(self), "rejected": [list(pair) for pair in self.rejected]}


@dataclass(frozen=True, kw_only=True)
class ExecutionPolicy:
    """How a model runs on a machine; every field is a ``Choice``.

    Args:
        device: ``cpu``, ``cuda:0`` (NVIDIA and AMD), ``xpu:0`` or ``mps``.
        compute_dtype: ``float32``, ``bfloat16`` (autocast in training) or ``float16`` (with a scaler).
        storage_dtype: Type in which weights that are not quantized are stored.
        quantization: ``none``, ``int8`` or ``nf4`` (double quantization) for the frozen weights.
        adapter: ``full``, ``lora`` or ``qlora``.
        optimizer: A name that ``transformers.TrainingArguments(optim=...)`` takes.
        gradient_checkpointing: Whether activations are recomputed in the backward pass to save memory.
        attention: A name that ``from_pretrained(attn_implementation=...)`` takes.
        compile: Whether the model is compiled with ``torch.compile``.
        micro_batch: Examples per forward pass; multiplied by ``accumulation`` it is the effective batch.
        accumulation: Forward passes per optimizer step.
        workers: Processes that load data.
        threads: CPU threads of one process.
        parallel_stages: Stages of a run that may run at the same time.
        offload: Whether part of the model is kept outside the device's memory.
        ipex: Whether ``intel_extension_for_pytorch.optimize`` is applied.
        memory: The memory that this policy needs, and the memory that may be used.
        teacher: The policy of the teacher, if the requirements name one.
    """

    device: Choice[str]
    compute_dtype: Choice[str]
    storage_dtype: Choice[str]
    quantization: Choice[str]
    adapter: Choice[str]
    optimizer: Choice[str]
    gradient_checkpointing: Choice[bool]
    attention: Choice[str]
    compile: Choice[bool]
    micro_batch: Choice[int]
    accumulation: Choice[int]
    workers: Choice[int]
    threads: Choice[int]
    parallel_stages: Choice[int]
    offload: Choice[bool]
    ipex: Choice[bool]
    memory: MemoryEstimate
    teacher: "ExecutionPolicy | None" = None

    def choice(self, name: str) -> Choice[object]:
        """Return the ``Choice`` of one field.

        Raises:
            UnknownFieldError: ``name`` is not a field of a policy; also a ``KeyError``.
        """
        check_field(name, argument="name")
        found: Choice[object] = getattr(self, name)
        return found

    def value(self, name: str) -> object:
        """Return the value of one field.

        Raises:
            UnknownFieldError: ``name`` is not a field of a policy; also a ``KeyError``.
        """
        return self.choice(name).value

    def explain(self) -> list[tuple[str, object, str]]:
        """Return ``(field, value, reason)`` for every field, in the order of the decision."""
        return [(name, self.value(name), self.choice(name).reason) for name in POLICY_FIELDS]

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types: ``{field: {value, rule, reason, source, rejected}, memory, teacher}``."""
        return {
            **{name: self.choice(name).to_dict() for name in POLICY_FIELDS},
            "memory": self.memory.to_dict(),
            "teacher": None if self.teacher is None else self.teacher.to_dict(),
        }


POLICY_FIELDS: tuple[str, ...] = tuple(
    item.name for item in dataclasses.fields(ExecutionPolicy) if item.name not in ("memory", "teacher")
)


def check_field(name: str, *, argument: str) -> None:
    """Refuse a name that is not a field of a policy.

    Raises:
        UnknownFieldError: With the nearest field as its suggestion.
    """
    if name not in POLICY_FIELDS:
        near = nearest(name, POLICY_FIELDS)
        hint = "" if near is None else f" Did you mean {near!r}?"
        raise UnknownFieldError(
            f"{name!r} is not a field of a policy.{hint} The fields are {', '.join(POLICY_FIELDS)}.",
            field=argument,
            found=name,
            allowed=POLICY_FIELDS,
            suggestion=near,
        )


def estimate_memory(
    facts: ModelFacts,
    policy: ExecutionPolicy,
    *,
    task: Task | None = None,
    training: bool = True,
    source_length: int = 128,
    target_length: int = 128,
    teacher: ModelFacts | None = None,
    teacher_policy: ExecutionPolicy | None = None,
    distillation: Distillation | None = None,
    lora_dropout: float = 0.05,
    budget_bytes: int | None = None,
) -> MemoryEstimate:
    """Estimate the memory that a model needs under a policy.

    Args:
        facts: The model.
        policy: How it is run.
        task: The task, if it differs from the one in ``facts``.
        training: False to estimate a forward pass without training.
        source_length: Tokens of an input.
        target_length: Tokens of an output.
        teacher: The teacher that is in memory too, in distillation.
        teacher_policy: How the teacher is stored. Without it, the teacher is not quantized and has the
            student's storage type.
        distillation: How the teacher's logits are obtained. The default is ``chunked`` with a teacher and
            ``none`` without one.
        lora_dropout: Dropout of the adapters.
        budget_bytes: The memory that may be used; it is copied into the result.

    Returns:
        The estimate at the policy's micro-batch.

    Source:
        The formula was fitted to measured peaks of small Llama-like models on a CPU: seven, within 6 %.

    Example:
        >>> import distill_hwdetect as hw
        >>> facts = hw.read_model_facts("writer")
        >>> policy = hw.choose_policy(hw.detect(), hw.Requirements(task="causal", model=facts))
        >>> short, long = (hw.estimate_memory(facts, policy, source_length=n) for n in (64, 512))
        >>> short.logits_bytes < long.logits_bytes
        True
    """
    workload = Workload(
        task=task or facts.task or "causal",
        training=training,
        source_length=source_length,
        target_length=target_length,
        distillation=distillation or ("none" if teacher is None else "chunked"),
        lora_dropout=lora_dropout,
    )
    return estimate(
        facts,
        _under(policy, workload),
        teacher=teacher,
        teacher_bytes=0 if distillation == "cached" else _teacher_bytes(teacher, policy, teacher_policy),
        budget_bytes=budget_bytes,
    )


def _teacher_bytes(teacher: ModelFacts | None, policy: ExecutionPolicy, own: ExecutionPolicy | None) -> int:
    """Return the bytes of the teacher's weights under its own policy, or else in the student's type."""
    if teacher is None:
        return 0
    return weight_bytes(
        teacher,
        storage_dtype=(own or policy).storage_dtype.value,
        quantization="none" if own is None else own.quantization.value,
    )


def _under(policy: ExecutionPolicy, workload: Workload) -> Workload:
    """Return a workload with the settings of a policy."""
    return dataclasses.replace(
        workload,
        micro_batch=policy.micro_batch.value,
        device=policy.device.value,
        storage_dtype=policy.storage_dtype.value,
        compute_dtype=policy.compute_dtype.value,
        quantization=policy.quantization.value,
        adapter=policy.adapter.value,
        optimizer=policy.optimizer.value,
        checkpointing=policy.gradient_checkpointing.value,
        accumulating=workload.training and policy.accumulation.value > 1,
    )
