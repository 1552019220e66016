"""The user's wishes, checked against the machine: what cannot work is refused with the reason."""

import difflib
from collections.abc import Mapping

from distill_hwdetect.devices import Target
from distill_hwdetect.errors import UnsupportedPolicyError
from distill_hwdetect.memory import STATE_BYTES
from distill_hwdetect.policy import POLICY_FIELDS, Requirements
from distill_hwdetect.precision import DTYPES
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.search import Bounds, allows_int8

_SWITCHES: Mapping[object, bool] = {"on": True, "off": False, "true": True, "false": False, "none": False}


def given(requirements: Requirements) -> dict[str, object]:
    """Return the overrides that are set, ``auto`` left out.

    Raises:
        UnsupportedPolicyError: A name that is no field of a policy.
    """
    for name in requirements.overrides:
        if name not in POLICY_FIELDS:
            near = difflib.get_close_matches(name, POLICY_FIELDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UnsupportedPolicyError(
                f"{name!r} is no field of a policy.{hint} The fields are {', '.join(POLICY_FIELDS)}."
            )
    return {name: value for name, value in requirements.overrides.items() if value not in ("auto", None)}


def switch(name: str, value: object) -> bool:
    """Read an on/off override.

    Raises:
        UnsupportedPolicyError: Neither on nor off.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _SWITCHES:
        return _SWITCHES[value.lower()]
    raise UnsupportedPolicyError(f"{name} takes 'on', 'off' or 'auto', found {value!r}.")


def count(name: str, value: object, *, least: int) -> int:
    """Read a whole-number override.

    Raises:
        UnsupportedPolicyError: No whole number of at least ``least``.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise UnsupportedPolicyError(
        f"{name} takes a whole number of at least {least} or 'auto', found {value!r}."
    )


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Read a named override.

    Raises:
        UnsupportedPolicyError: Not one of ``allowed``; the nearest is named.
    """
    if isinstance(value, str) and value in allowed:
        return value
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnsupportedPolicyError(f"{name} takes {', '.join(allowed)} or 'auto', found {value!r}.{hint}")


def search_bounds(
    profile: HardwareProfile, target: Target, requirements: Requirements, values: Mapping[str, object]
) -> Bounds:
    """Check the overrides that bound the memory search.

    Raises:
        UnsupportedPolicyError: A wish that this device, or another wish, rules out.
    """
    adapter = None if requirements.adapter == "auto" else str(requirements.adapter)
    if "adapter" in values:
        adapter = one_of("adapter", values["adapter"], ("full", "lora", "qlora"))
    quantization = None
    if "quantization" in values:
        quantization = one_of("quantization", values["quantization"], ("none", "int8", "nf4"))
    if adapter == "qlora" and quantization is None:
        quantization = "nf4"
    _check_quantization(profile, target, requirements, adapter, quantization)
    optimizer = None
    if "optimizer" in values:
        optimizer = one_of("optimizer", values["optimizer"], tuple(STATE_BYTES))
        _check_optimizer(profile, target, optimizer)
    checkpointing = values.get("gradient_checkpointing")
    storage = values.get("storage_dtype")
    return Bounds(
        adapter=adapter,
        quantization=quantization,
        optimizer=optimizer,
        checkpointing=None if checkpointing is None else switch("gradient_checkpointing", checkpointing),
        micro_batch=_micro_batch(requirements, values),
        storage_dtype=None if storage is None else one_of("storage_dtype", storage, DTYPES),
    )


def _check_quantization(
    profile: HardwareProfile,
    target: Target,
    requirements: Requirements,
    adapter: str | None,
    quantization: str | None,
) -> None:
    if quantization in (None, "none"):
        if adapter == "qlora" and requirements.training:
            raise UnsupportedPolicyError(
                "adapter 'qlora' was asked for with quantization 'none'; QLoRA is LoRA over nf4 weights. "
                "Set quantization = 'nf4' or adapter = 'lora'."
            )
        return
    if adapter == "full" and requirements.training:
        raise UnsupportedPolicyError(
            f"quantization {quantization!r} was asked for with "
            "adapter 'full', but quantized weights cannot be "
            "trained. Set adapter = 'lora' (or 'qlora'), or quantization = 'none'."
        )
    if adapter == "qlora" and quantization == "int8":
        raise UnsupportedPolicyError(
            "adapter 'qlora' was asked for with quantization 'int8'; QLoRA stores nf4. "
            "Set quantization = 'nf4', or adapter = 'lora' over int8."
        )
    if quantization == "int8" and not allows_int8(target):
        raise UnsupportedPolicyError(
            f"quantization 'int8' was asked for, but {target.choice.reason} "
            "LLM.int8 needs compute capability 7.5. "
            "Set quantization = 'nf4' or 'none'."
        )
    if target.kind == "cpu" and not profile.cpu.has_vectors:
        raise UnsupportedPolicyError(
            f"quantization {quantization!r} was asked for, but "
            "bitsandbytes needs AVX2 on a CPU, which this one lacks. "
            "Set quantization = 'none'."
        )
    _need_bitsandbytes(profile, f"quantization {quantization!r}")


def _check_optimizer(profile: HardwareProfile, target: Target, optimizer: str) -> None:
    if "8bit" not in optimizer:
        return
    if optimizer.startswith("paged") and target.kind == "cpu":
        raise UnsupportedPolicyError(
            "optimizer 'paged_adamw_8bit' was asked for, but on a "
            "CPU it is silently not paged and 22 times slower a "
            "step than fused AdamW (measured). Set optimizer = 'adamw_torch_fused', or 'auto'."
        )
    if target.kind == "mps":
        raise UnsupportedPolicyError(
            f"optimizer {optimizer!r} was asked for, but bitsandbytes has no 8-bit optimizer for Apple GPUs. "
            "Set optimizer = 'adamw_torch', or 'auto'."
        )
    _need_bitsandbytes(profile, f"optimizer {optimizer!r}")


def _need_bitsandbytes(profile: HardwareProfile, what: str) -> None:
    if profile.torch is not None and profile.packages is not None and "bitsandbytes" not in profile.packages:
        raise UnsupportedPolicyError(
            f"{what} was asked for, but bitsandbytes is not installed: pip install bitsandbytes."
        )


def _micro_batch(requirements: Requirements, values: Mapping[str, object]) -> int | None:
    batch = requirements.effective_batch
    sizes = []
    if "micro_batch" in values:
        sizes.append(count("micro_batch", values["micro_batch"], least=1))
    if "accumulation" in values:
        steps = count("accumulation", values["accumulation"], least=1)
        sizes.append(batch // steps if batch % steps == 0 else 0)
    if not sizes:
        return None
    if len(set(sizes)) > 1 or sizes[0] == 0 or batch % sizes[0]:
        asked = ", ".join(
            f"{name} {values[name]}" for name in ("micro_batch", "accumulation") if name in values
        )
        divisors = ", ".join(str(size) for size in range(1, batch + 1) if batch % size == 0)
        raise UnsupportedPolicyError(
            f"{asked} does not make the effective batch of {batch}: micro_batch times accumulation must. "
            f"micro_batch may be {divisors}."
        )
    return sizes[0]
