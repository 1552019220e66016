"""The user's overrides, checked against the machine: one that cannot work is refused with the reason."""

from collections.abc import Mapping

from distill_hwdetect.devices import Target
from distill_hwdetect.errors import UnsupportedPolicyError
from distill_hwdetect.memory import STATE_BYTES
from distill_hwdetect.policy import Requirements, check_field
from distill_hwdetect.precision import DTYPES
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.refusals import nearest, unsupported
from distill_hwdetect.search import Bounds, allows_int8

_SWITCHES: Mapping[object, bool] = {"on": True, "off": False, "true": True, "false": False, "none": False}


def given(requirements: Requirements) -> dict[str, object]:
    """Return the overrides that are set, ``auto`` left out.

    Raises:
        UnknownFieldError: A name that is not a field of a policy.
    """
    for name in requirements.overrides:
        check_field(name, argument="overrides")
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
    raise UnsupportedPolicyError(
        f"{name} takes 'on', 'off' or 'auto', found {value!r}.",
        field=name,
        found=value,
        allowed=("on", "off", "auto"),
        suggestion="auto",
    )


def count(name: str, value: object, *, least: int) -> int:
    """Read a whole-number override.

    Raises:
        UnsupportedPolicyError: The value is not a whole number of at least ``least``.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise UnsupportedPolicyError(
        f"{name} takes a whole number of at least {least} or 'auto', found {value!r}.",
        field=name,
        found=value,
        suggestion=least,
    )


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Read a named override.

    Raises:
        UnsupportedPolicyError: Not one of ``allowed``; the nearest is named.
    """
    if isinstance(value, str) and value in allowed:
        return value
    near = nearest(str(value), allowed)
    hint = "" if near is None else f" Did you mean {near!r}?"
    raise UnsupportedPolicyError(
        f"{name} takes {', '.join(allowed)} or 'auto', found {value!r}.{hint}",
        field=name,
        found=value,
        allowed=(*allowed, "auto"),
        suggestion=near or "auto",
    )


def search_bounds(
    profile: HardwareProfile, target: Target, requirements: Requirements, values: Mapping[str, object]
) -> Bounds:
    """Check the overrides that bound the memory search.

    Raises:
        UnsupportedPolicyError: An override that this device, or another override, rules out.
    """
    adapter = None if requirements.adapter == "auto" else str(requirements.adapter)
    if "adapter" in values:
        adapter = one_of("adapter", values["adapter"], ("full", "lora", "qlora"))
    quantization = None
    if "quantization" in values:
        quantization = one_of("quantization", values["quantization"], ("none", "int8", "nf4"))
    _check_quantization(profile, target, requirements, adapter, values)
    if adapter == "qlora" and quantization is None:
        quantization = "nf4"
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
    values: Mapping[str, object],
) -> None:
    """Refuse a quantization that the adapter, the device or the installed packages rule out."""
    quantization = values.get("quantization")
    if adapter == "qlora" and quantization == "none" and requirements.training:
        why = "adapter 'qlora' is LoRA over nf4 weights (adapter = 'lora' leaves them unquantized)"
        raise unsupported("quantization", quantization, why, ("nf4",))
    if quantization == "none" or (quantization is None and adapter != "qlora"):
        return
    if adapter == "full" and requirements.training:
        why = "adapter 'full' trains the weights, and quantized ones cannot be trained (adapter = 'lora' can)"
        raise unsupported("quantization", quantization, why, ("none",))
    if adapter == "qlora" and quantization == "int8":
        why = "adapter 'qlora' stores nf4 (adapter = 'lora' adapts int8 weights)"
        raise unsupported("quantization", quantization, why, ("nf4",))
    if quantization == "int8" and not allows_int8(target):
        why = f"LLM.int8 needs compute capability 7.5. The device: {target.choice.reason.rstrip('.')}"
        raise unsupported("quantization", quantization, why, ("nf4", "none"))
    # QLoRA alone implies nf4: then the adapter is what to change.
    field, found, other = (
        ("adapter", adapter, "lora") if quantization is None else ("quantization", quantization, "none")
    )
    if target.kind == "cpu" and not profile.cpu.has_vectors:
        raise unsupported(field, found, "bitsandbytes needs AVX2 on a CPU, which this one lacks", (other,))
    _need_bitsandbytes(profile, field, found, other)


def _check_optimizer(profile: HardwareProfile, target: Target, optimizer: str) -> None:
    if "8bit" not in optimizer:
        return
    if optimizer.startswith("paged") and target.kind == "cpu":
        why = "on a CPU it is silently not paged and 22 times slower a step than fused AdamW (measured)"
        raise unsupported("optimizer", optimizer, why, ("adamw_torch_fused",))
    if target.kind == "mps":
        why = "bitsandbytes has no 8-bit optimizer for Apple GPUs"
        raise unsupported("optimizer", optimizer, why, ("adamw_torch",))
    _need_bitsandbytes(profile, "optimizer", optimizer, "adamw_torch_fused")


def _need_bitsandbytes(profile: HardwareProfile, field: str, found: object, other: str) -> None:
    if profile.torch is not None and profile.packages is not None and "bitsandbytes" not in profile.packages:
        why = "bitsandbytes is not installed: pip install bitsandbytes"
        raise unsupported(field, found, why, (other,))


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
        divisors = [size for size in range(1, batch + 1) if batch % size == 0]
        field = "micro_batch" if "micro_batch" in values else "accumulation"
        raise UnsupportedPolicyError(
            f"{asked} does not make the effective batch of {batch}: micro_batch times accumulation must. "
            f"{field} may be {', '.join(map(str, divisors))}.",
            field=field,
            found=values[field],
            allowed=(*divisors, "auto"),
            suggestion=_suggested_size(field, values, divisors),
        )
    return sizes[0]


def _suggested_size(field: str, values: Mapping[str, object], divisors: list[int]) -> int:
    """Return the divisor of the effective batch that completes the other override, or the nearest one."""
    other = values.get("accumulation")
    if field == "micro_batch" and other in divisors:
        return divisors[-1] // count("accumulation", other, least=1)
    found = count(field, values[field], least=1)
    return min(divisors, key=lambda size: abs(size - found))
