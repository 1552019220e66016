"""Decide how a model runs on a machine: a pure function, every field with its reason."""

from collections.abc import Mapping
from dataclasses import replace

from distill_hwdetect import overrides
from distill_hwdetect.devices import Target, pick_device
from distill_hwdetect.ipex import pick_ipex
from distill_hwdetect.policy import Choice, ExecutionPolicy, Requirements
from distill_hwdetect.precision import pick_dtype
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.refusals import unsupported
from distill_hwdetect.rules import choose, gib
from distill_hwdetect.search import NF4_FLOOR, SearchResult, search_settings

_NO_SDPA = frozenset(
    {"longt5", "deberta", "deberta-v2", "switch_transformers", "prophetnet", "xlnet", "fnet"}
)
_NO_SDPA_BEFORE_5 = frozenset({"t5", "mt5", "umt5"})
_ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")


def choose_policy(profile: HardwareProfile, requirements: Requirements) -> ExecutionPolicy:
    """Decide how a model runs on a machine.

    The fields are decided in this order: the device, among those that the installed torch can run; the type
    to compute in, by device and model family; the least lossy storage that fits 0.85 of the free memory; the
    optimizer; gradient checkpointing, only if it is still needed; and last the micro-batch, which always
    divides the effective batch.

    Args:
        profile: The machine, from ``detect()`` or a recording.
        requirements: What the model has to do, with the user's overrides.

    Returns:
        A policy, each field a ``Choice``. When nothing fits, it is the policy that needs the least memory,
        and ``memory.fits`` is False.

    Raises:
        UnsupportedPolicyError: An override is unknown, or cannot work on this machine.

    Example:
        >>> from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts
        >>> model = read_model_facts("translator")
        >>> policy = choose_policy(detect(), Requirements(task="seq2seq", model=model, effective_batch=4))
        >>> policy.micro_batch.value * policy.accumulation.value
        4
        >>> policy.micro_batch.reason
        'The whole effective batch of 4 fits: ...'
    """
    values = overrides.given(requirements)
    target = pick_device(profile, values.get("device", "auto"))
    dtype = pick_dtype(
        profile,
        target,
        family=requirements.model.family,
        training=requirements.training,
        override=values.get("compute_dtype", "auto"),
    )
    found = search_settings(
        profile,
        target,
        requirements,
        compute_dtype=dtype.value,
        teacher_dtype=_teacher_dtype(profile, target, requirements),
        bounds=overrides.search_bounds(profile, target, requirements, values),
    )
    return _policy(profile, target, requirements, dtype, found, values)


def _policy(
    profile: HardwareProfile,
    target: Target,
    requirements: Requirements,
    dtype: Choice[str],
    found: SearchResult,
    values: Mapping[str, object],
) -> ExecutionPolicy:
    """Return the policy with the settings that the memory search found."""
    stages = _stages(profile, target, requirements, found, values)
    threads = _threads(profile, stages.value, values)
    return ExecutionPolicy(
        device=target.choice,
        compute_dtype=dtype,
        storage_dtype=_storage(found, values),
        quantization=_quantization(requirements, found, values),
        adapter=_adapter(requirements, found, values),
        optimizer=_optimizer(target, found, values),
        gradient_checkpointing=_checkpointing(found, values),
        attention=_attention(profile, target, requirements.model.family, values),
        compile=_compile(values),
        micro_batch=_micro_batch(requirements, found, values),
        accumulation=_accumulation(requirements, found, values),
        workers=_workers(profile, requirements, values),
        threads=threads,
        parallel_stages=stages,
        offload=_offload(target, values),
        ipex=pick_ipex(profile, target, requirements, dtype.value, threads, values),
        memory=found.memory,
        teacher=_teacher(profile, requirements, found),
    )


def _teacher_dtype(profile: HardwareProfile, target: Target, requirements: Requirements) -> str:
    """Return the type in which the teacher is stored; without a teacher it is not used."""
    family = requirements.teacher.family if requirements.teacher else ""
    return pick_dtype(profile, target, family=family, training=False).value


def _teacher(
    profile: HardwareProfile, requirements: Requirements, found: SearchResult
) -> ExecutionPolicy | None:
    """Plan the teacher as a model that is only run, in what the common search left it."""
    if requirements.teacher is None:
        return None
    kept = {
        name: requirements.overrides[name] for name in ("device", "threads") if name in requirements.overrides
    }
    alone = requirements.distillation == "cached"
    if not alone:
        kept["quantization"] = found.teacher_quantization
    batch = found.workload.micro_batch
    policy = choose_policy(
        profile,
        replace(
            requirements,
            model=requirements.teacher,
            teacher=None,
            training=False,
            adapter="auto",
            effective_batch=batch,
            overrides={**kept, "micro_batch": batch},
        ),
    )
    policy = replace(
        policy, micro_batch=choose("batch-fits", batch, "The student's: both read the same rows.")
    )
    if alone:
        return policy  # it wrote the cache by itself, and has the machine to itself
    if found.teacher_quantization == "none":
        reason = "Student and teacher fit side by side as they are."
        return replace(policy, quantization=choose("quantization-fits", "none", reason))
    reason = "Student and teacher fit side by side only so."
    return replace(policy, quantization=choose("quantization-to-fit", found.teacher_quantization, reason))


def _storage(found: SearchResult, values: Mapping[str, object]) -> Choice[str]:
    work = found.workload
    if "storage_dtype" in values:
        return choose("override", work.storage_dtype, "The user asked for it.")
    if work.training and work.adapter == "full":
        rejected = (("bfloat16", "small updates are lost when trained weights are kept in 16 bits"),)
        return choose(
            "storage-master", "float32", "All weights are trained, and updated in float32.", rejected
        )
    what = "Weights are frozen" if work.training else "The model is only run"
    reason = f"{what}: kept in the type that is computed in."
    if work.storage_dtype != "float32":
        return choose(
            "storage-compute", work.storage_dtype, reason, (("float32", "twice the memory for no gain"),)
        )
    return choose(
        "storage-compute", work.storage_dtype, reason, (("bfloat16", "converted again in every pass"),)
    )


def _quantization(
    requirements: Requirements, found: SearchResult, values: Mapping[str, object]
) -> Choice[str]:
    kind = found.workload.quantization
    needed = {name: gib(size) for name, _, _, size in found.passed_over}
    budget = "" if found.memory.budget_bytes is None else gib(found.memory.budget_bytes)
    rejected = tuple((name, f"needs {size} of {budget}") for name, size in needed.items() if name != kind)
    if "quantization" in values:
        return choose("override", kind, "The user asked for it.", rejected)
    if kind == "nf4" and found.workload.adapter == "qlora" and not rejected:
        return choose(
            "quantization-asked", kind, "QLoRA keeps the frozen weights in nf4 with double quantization."
        )
    need = gib(found.memory.total_bytes)
    if kind != "none":
        reason = (
            f"Fits only so: {need} of {budget}."
            if found.memory.fits
            else f"Even so it needs {need} of {budget}."
        )
        return choose("quantization-to-fit", kind, reason, rejected)
    small = requirements.model.parameters < NF4_FLOOR
    lossy = (
        ("int8", "loses precision, saves nothing needed"),
        ("nf4", "loses precision, saves nothing needed"),
    )
    if found.memory.fits:
        room = f"{need} of {budget}" if budget else f"{need}; the device does not say what is free"
        return choose("quantization-fits", "none", f"Fits as it is: {room}.", lossy)
    reason = f"Needs {need} of {budget}, and quantization is not available"
    reason += " (models below half a billion parameters lose too much in nf4)." if small else "."
    return choose("quantization-fits", "none", reason)


def _adapter(requirements: Requirements, found: SearchResult, values: Mapping[str, object]) -> Choice[str]:
    work = found.workload
    if not work.training:
        return choose("adapter-none", work.adapter, "The model is only run; nothing is trained.")
    if "adapter" in values:
        return choose("override", work.adapter, "The user asked for it.")
    if requirements.adapter != "auto":
        return choose("adapter-asked", work.adapter, f"The requirements name {requirements.adapter!r}.")
    if work.adapter == "qlora":
        reason = "Weights fit only in nf4, and quantized weights are trained through adapters."
        return choose("adapter-qlora", "qlora", reason, (("lora", "unquantized weights do not fit"),))
    states = gib(16 * requirements.model.parameters)
    return choose(
        "adapter-lora",
        "lora",
        "A pretrained model that fits: adapters train a small part of it.",
        (("full", f"weights, gradients and states take {states}"), ("qlora", "it fits without quantizing")),
    )


def _optimizer(target: Target, found: SearchResult, values: Mapping[str, object]) -> Choice[str]:
    work = found.workload
    if "optimizer" in values:
        return choose("override", work.optimizer, "The user asked for it.")
    if not work.training:
        return choose("optimizer-unused", work.optimizer, "The model is only run; no optimizer is made.")
    if target.kind == "mps":
        rejected = (("paged_adamw_8bit", "bitsandbytes has no 8-bit optimizer for Apple GPUs"),)
        return choose("optimizer-mps", work.optimizer, "The plain AdamW of torch.", rejected)
    if work.optimizer == "adamw_torch_fused":
        slow = (
            "silently not paged on a CPU, 22 times slower a step"
            if target.kind == "cpu"
            else "states fit as they are"
        )
        reason = "Fused AdamW: four times as fast as the plain loop on a CPU (measured)."
        if target.kind != "cpu":
            reason = "Fused AdamW: its states found."
        return choose("optimizer-fused", work.optimizer, reason, (("paged_adamw_8bit", slow),))
    fused = (("adamw_torch_fused", "8 bytes a trained parameter instead of 2"),)
    if work.quantization == "nf4":
        rule = "optimizer-xpu" if target.kind == "xpu" else "optimizer-paged"
        return choose(
            rule, work.optimizer, "QLoRA: 8-bit states, paged out at peaks where the device can.", fused
        )
    return choose("optimizer-8bit", work.optimizer, "The states of AdamW would not fit in float32.", fused)


def _checkpointing(found: SearchResult, values: Mapping[str, object]) -> Choice[bool]:
    on = found.workload.checkpointing
    if "gradient_checkpointing" in values:
        return choose("override", on, "The user asked for it.")
    if not on:
        what = "Activations fit" if found.workload.training else "The model is only run"
        return choose(
            "checkpointing-off", on, f"{what}: nothing needs to be recomputed.", (("True", "a third slower"),)
        )
    sizes = [
        size for kind, _, step, size in found.passed_over if kind == found.workload.quantization and not step
    ]
    why = f"needs {gib(sizes[-1])}" if sizes else "does not fit"
    return choose("checkpointing-to-fit", on, "Activations do not fit otherwise.", (("False", why),))


def _attention(
    profile: HardwareProfile, target: Target, family: str, values: Mapping[str, object]
) -> Choice[str]:
    version = (profile.packages or {}).get("transformers", "5")
    eager = family in _NO_SDPA or (family in _NO_SDPA_BEFORE_5 and version.startswith("4."))
    if "attention" in values:
        asked = overrides.one_of("attention", values["attention"], _ATTENTION)
        capability = target.accelerator.capability if target.accelerator else None
        if asked.startswith("flash") and (target.kind != "cuda" or (capability or (8, 0)) < (8, 0)):
            why = f"it needs an NVIDIA GPU of compute capability 8.0, and the device is {target.name}"
            raise unsupported("attention", asked, why, ("eager" if eager else "sdpa",))
        if asked == "sdpa" and eager:
            why = f"{family} has no such kernel in transformers"
            raise unsupported("attention", asked, why, ("eager",))
        return choose("override", asked, "The user asked for it.")
    if eager:
        reason = f"{family} has no scaled-dot-product kernel in transformers."
        return choose("attention-eager", "eager", reason, (("sdpa", "from_pretrained refuses it"),))
    rejected = (
        ("eager", "keeps the whole score matrix"),
        ("flash_attention_2", "pays for packed batches on NVIDIA only"),
    )
    return choose("attention-sdpa", "sdpa", "torch's own fused attention runs on every device.", rejected)


def _compile(values: Mapping[str, object]) -> Choice[bool]:
    if "compile" in values:
        return choose("override", overrides.switch("compile", values["compile"]), "The user asked for it.")
    reason = "Texts of many lengths would compile again and again."
    return choose(
        "compile-off",
        value=False,
        reason=reason,
        rejected=(("True", "needs a C++ compiler and a long run of equal shapes"),),
    )


def _micro_batch(
    requirements: Requirements, found: SearchResult, values: Mapping[str, object]
) -> Choice[int]:
    size, batch = found.workload.micro_batch, requirements.effective_batch
    if "micro_batch" in values or "accumulation" in values:
        return choose("override", size, "The user asked for it.")
    if size == batch:
        reason = f"The whole effective batch of {batch} fits: {gib(found.memory.total_bytes)}."
        return choose("batch-fits", size, reason)
    reason = f"The largest part of the effective batch of {batch} that fits."
    return choose("batch-fits", size, reason, ((str(batch), "does not fit at once"),))


def _accumulation(
    requirements: Requirements, found: SearchResult, values: Mapping[str, object]
) -> Choice[int]:
    steps = requirements.effective_batch // found.workload.micro_batch
    if "accumulation" in values:
        return choose("override", steps, "The user asked for it.")
    reason = (
        f"{found.workload.micro_batch} x {steps} is the effective batch of {requirements.effective_batch}."
    )
    return choose("accumulation", steps, reason)


def _workers(
    profile: HardwareProfile, requirements: Requirements, values: Mapping[str, object]
) -> Choice[int]:
    if "workers" in values:
        return choose(
            "override", overrides.count("workers", values["workers"], least=0), "The user asked for it."
        )
    cores = profile.cpu.usable_cores
    if requirements.pretokenized:
        return choose("workers-none", 0, "Data is tokenized before training: nothing is left to do aside.")
    if cores <= 2:
        return choose("workers-none", 0, f"{cores} usable CPU(s): a worker would take a core from training.")
    return choose("workers", min(4, cores // 2), f"Tokenizing while training, on {cores} usable CPUs.")


def _threads(profile: HardwareProfile, stages: int, values: Mapping[str, object]) -> Choice[int]:
    cpu = profile.cpu
    if "threads" in values:
        number = overrides.count("threads", values["threads"], least=1)
        beware = f" Beware: only {cpu.usable_cores} CPUs are usable." if number > cpu.usable_cores else ""
        return choose("override", number, f"The user asked for it.{beware}")
    threads = max(1, min(cpu.usable_cores, cpu.physical_cores or cpu.usable_cores))
    rejected: tuple[tuple[str, str], ...] = ()
    if threads < cpu.logical_cores:
        rejected = (
            (str(cpu.logical_cores), "counts hardware threads, or CPUs that this process may not use"),
        )
    if stages > 1:
        shared = f"{threads} cores are shared by {stages} stages side by side."
        return choose("threads-shared", max(1, threads // stages), shared, rejected)
    return choose(
        "threads-cores", threads, f"{cpu.usable_cores} usable CPUs of {cpu.logical_cores}.", rejected
    )


def _stages(
    profile: HardwareProfile,
    target: Target,
    requirements: Requirements,
    found: SearchResult,
    values: Mapping[str, object],
) -> Choice[int]:
    if "parallel_stages" in values:
        number = overrides.count("parallel_stages", values["parallel_stages"], least=1)
        return choose("override", number, "The user asked for it.")
    asked = requirements.side_by_side
    if target.kind != "cpu":
        return choose(
            "stages-one", 1, "Stages share one device: side by side they would only slow each other."
        )
    if asked == 1:
        return choose("stages-one", 1, "No other stage can run beside this one.")
    cores = profile.cpu.usable_cores // max(1, overrides.count("threads", values.get("threads", 1), least=1))
    budget, need = found.memory.budget_bytes, found.memory.total_bytes
    room = asked if budget is None else max(1, budget // max(1, need))
    number = max(1, min(asked, cores, room))
    if number == 1:
        why = f"{asked} would need {asked * need / 1e9:.1f} GB" if room == 1 else "there is one usable core"
        return choose("stages-one", 1, f"{asked} stages need not wait for each other, but {why}.")
    reason = f"{asked} stages need not wait for each other: {number} side by side share the cores better."
    return choose("stages-side-by-side", number, reason, (("1", "more threads on one stage gain less"),))


def _offload(target: Target, values: Mapping[str, object]) -> Choice[bool]:
    if "offload" in values:
        on = overrides.switch("offload", values["offload"])
        if on and target.kind in ("cpu", "mps"):
            why = f"{target.name} already uses main memory: there is nowhere to offload to"
            raise unsupported("offload", values["offload"], why, ("off",))
        return choose("override", on, "The user asked for it.")
    return choose(
        "offload-off", value=False, reason="A smaller type, checkpointing and a smaller batch come first."
    )
