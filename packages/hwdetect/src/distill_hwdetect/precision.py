"""The type to compute in: what the device computes natively, and what does not overflow in the model."""

import re
from dataclasses import dataclass

from distill_hwdetect.devices import Target
from distill_hwdetect.policy import Choice
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.refusals import unsupported
from distill_hwdetect.rules import choose

DTYPES = ("float32", "bfloat16", "float16")
# Trained in bfloat16; their activations leave float16's range.
OVERFLOWING = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "pix2struct", "gemma")


@dataclass(frozen=True)
class _Verdict:
    """What a device makes of the three types: the best, its rule and reason, and why not the others."""

    best: str
    rule: str
    reason: str
    refused: tuple[tuple[str, str], ...]
    discouraged: tuple[tuple[str, str], ...] = ()


def overflows(family: str) -> bool:
    """Whether a family overflows float16."""
    return any(family == name or (name == "gemma" and family.startswith("gemma")) for name in OVERFLOWING)


def pick_dtype(
    profile: HardwareProfile, target: Target, *, family: str, training: bool, override: object = "auto"
) -> Choice[str]:
    """Pick the type to compute in.

    Args:
        profile: The machine.
        target: The device.
        family: The model's ``model_type``.
        training: Whether there is a backward pass.
        override: ``auto`` or a type.

    Raises:
        UnsupportedPolicyError: The type asked for is emulated here, or overflows in this family.
    """
    verdict = _verdict(profile, target, training=training)
    refused = dict(verdict.refused)
    if overflows(family):
        refused["float16"] = f"{family} overflows float16 and trains to NaN"
    if override not in ("auto", None):
        return _asked(str(override), verdict.best, refused, dict(verdict.discouraged))
    if verdict.best in refused:
        reason = f"{refused[verdict.best]}; bfloat16 is not computed here."
        return choose("dtype-family-float32", "float32", reason, tuple(refused.items()))
    return choose(verdict.rule, verdict.best, verdict.reason, (*refused.items(), *verdict.discouraged))


def _asked(asked: str, best: str, refused: dict[str, str], discouraged: dict[str, str]) -> Choice[str]:
    allowed = sorted((name for name in DTYPES if name not in refused), key=lambda name: name != best)
    if asked not in DTYPES:
        raise unsupported("compute_dtype", asked, f"the allowed types are {', '.join(DTYPES)}", allowed)
    if asked in refused:
        raise unsupported("compute_dtype", asked, refused[asked], allowed)
    warning = f" Beware: {discouraged[asked]}." if asked in discouraged else ""
    return choose("override", asked, f"The user asked for it.{warning}", tuple(refused.items()))


def _verdict(profile: HardwareProfile, target: Target, *, training: bool) -> _Verdict:
    device = target.accelerator
    if device is None:
        return _cpu(profile, training=training)
    slow = (("float32", "slower than a 16-bit type, which this device computes natively"),)
    if target.kind == "cuda":
        capability = device.capability or (8, 0)
        cc = f"{capability[0]}.{capability[1]}"
        if capability >= (8, 0):
            reason = f"Compute capability {cc}: bfloat16 is computed natively."
            return _Verdict(
                "bfloat16", "dtype-cuda-bfloat16", reason, (), (*slow, ("float16", "needs a loss scaler"))
            )
        why = f"this GPU only emulates it (compute capability {cc} < 8.0, whatever is_bf16_supported() says)"
        reason = (
            f"Compute capability {cc} has no bfloat16 units; float16 with a loss scaler, adapters in float32."
        )
        return _Verdict("float16", "dtype-cuda-float16", reason, (("bfloat16", why),), slow)
    if target.kind == "rocm":
        name = device.target or "AMD"
        if name.startswith("gfx10"):
            why = f"{name} has no bfloat16 instructions and fails to compile them"
            return _Verdict("float16", "dtype-rocm-float16", f"{why}.", (("bfloat16", why),), slow)
        return _Verdict(
            "bfloat16", "dtype-rocm-bfloat16", f"{name} multiplies bfloat16 matrices natively.", (), slow
        )
    if target.kind == "xpu":
        return _Verdict(
            "bfloat16", "dtype-xpu-bfloat16", "Intel GPUs compute bfloat16 natively (XMX).", (), slow
        )
    return _apple(profile, device.name, training=training)


def _cpu(profile: HardwareProfile, *, training: bool) -> _Verdict:
    cpu = profile.cpu
    half = ("float16", "this CPU only emulates it (10 to 20 times slower than float32)")
    if not cpu.computes_bfloat16:
        best = next(
            (name.upper() for name in ("avx512f", "avx2", "sve", "asimd") if name in cpu.flags),
            "no vector unit",
        )
        why = f"this CPU only emulates it ({best}; measured 10 times slower than float32)"
        reason = f"{best} without bfloat16 units: bfloat16 is emulated, 10 times slower (measured on AVX2)."
        return _Verdict("float32", "dtype-cpu-float32", reason, (("bfloat16", why), half))
    gain = _gain(profile)
    if gain is not None and gain <= 1:
        slower = ("bfloat16", f"a probe on this machine ran it at {gain:.1f} times float32's speed")
        reason = "The processor has bfloat16, but a probe on this machine found it no faster than float32."
        return _Verdict("float32", "dtype-probe-float32", reason, (half,), (slower,))
    if cpu.is_arm:
        if training and gain is not None:
            reason = f"ARM with bf16: a probe on this machine ran it {gain:.1f} times as fast as float32."
            other = ("float32", f"{gain:.1f} times slower in the probe")
            return _Verdict("bfloat16", "dtype-probe-bfloat16", reason, (half,), (other,))
        if training:
            slow = ("bfloat16", "a gain in training has not been shown on ARM; `--deep` times it")
            reason = "ARM with bf16: a gain in training has not been shown here, float32 is safe."
            return _Verdict("float32", "dtype-arm-train", reason, (half,), (slow,))
        return _Verdict(
            "bfloat16", "dtype-arm-run", "ARM with bf16 multiplies bfloat16 matrices natively.", (half,)
        )
    unit = "AMX_BF16" if "amx_bf16" in cpu.flags else "AVX512_BF16"
    reason = f"{unit}: bfloat16 is computed natively (autocast, trained weights stay float32)."
    return _Verdict(
        "bfloat16", "dtype-cpu-bfloat16", reason, (half,), (("float32", "1.4 times slower here"),)
    )


def _gain(profile: HardwareProfile) -> float | None:
    """Return how many times faster bfloat16 products were than float32 ones in a deep probe of the CPU."""
    speeds = (profile.torch.speeds or {}).get("cpu", {}) if profile.torch else {}
    single, half = speeds.get("float32"), speeds.get("bfloat16")
    return half / single if single and half else None


def _apple(profile: HardwareProfile, name: str, *, training: bool) -> _Verdict:
    found = re.search(r"\bM(\d+)", name)
    generation = int(found.group(1)) if found else 1
    macos = profile.environment.get("macos", "0").split(".")[0]
    if generation >= 3 and macos.isdigit() and int(macos) >= 14:
        reason = f"{name} on macOS {macos} computes bfloat16 natively."
        return _Verdict(
            "bfloat16", "dtype-mps-bfloat16", reason, (), (("float16", "NaN in training (ACE-Step#619)"),)
        )
    emulated = ("bfloat16", f"Metal only emulates it on {name or 'this chip'} (M3 and macOS 14 compute it)")
    if training:
        nan = ("float16", "training in float16 on Apple GPUs gives NaN (ACE-Step#619)")
        return _Verdict("float32", "dtype-mps-float32", "M1 and M2 emulate bfloat16.", (emulated, nan))
    return _Verdict(
        "float16", "dtype-mps-float16", "M1 and M2 emulate bfloat16; float16 is native.", (emulated,)
    )
