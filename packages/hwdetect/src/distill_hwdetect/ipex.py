"""Intel's extension of torch: used where it is installed, matches torch and is faster."""

from collections.abc import Mapping

from distill_hwdetect import overrides
from distill_hwdetect.devices import Target
from distill_hwdetect.policy import Choice, Requirements
from distill_hwdetect.profile import HardwareProfile
from distill_hwdetect.refusals import unsupported
from distill_hwdetect.rules import choose


def pick_ipex(
    profile: HardwareProfile,
    target: Target,
    requirements: Requirements,
    dtype: str,
    threads: Choice[int],
    values: Mapping[str, object],
) -> Choice[bool]:
    """Pick whether ``ipex.optimize`` is applied.

    Raises:
        UnsupportedPolicyError: It was asked for, and is not installed, beside another torch, or of no use on
            the device.
    """
    asked = "ipex" in values and overrides.switch("ipex", values["ipex"])
    obstacle = _ipex_obstacle(profile, target)
    if asked:
        if obstacle is not None:
            raise unsupported("ipex", values["ipex"], obstacle.rstrip("."), ("off",))
        return choose("override", value=True, reason="The user asked for it, and IPEX matches torch.")
    if "ipex" in values:
        return choose("override", value=False, reason="The user asked for it.")
    if obstacle is not None:
        return choose("ipex-off", value=False, reason=f"Not used: {obstacle}", rejected=(("True", obstacle),))
    if not requirements.training and dtype == "bfloat16" and threads.value > 1:
        return choose(
            "ipex-helps",
            value=True,
            reason="Running in bfloat16 on several threads, IPEX is 1.2 times as fast.",
        )
    reason = "torch's own fused AdamW gains more than IPEX does in training, and float32 runs no faster."
    return choose(
        "ipex-off",
        value=False,
        reason=reason,
        rejected=(("True", "no gain here; ipex = 'on' uses it all the same"),),
    )


def _ipex_obstacle(profile: HardwareProfile, target: Target) -> str | None:
    if target.kind != "cpu":
        return f"the device is {target.name}; IPEX speeds up CPUs (Intel GPUs are in torch itself)."
    version = (profile.packages or {}).get("intel-extension-for-pytorch")
    if version is None:
        return "it is not installed; its last release, 2.8, needs torch 2.8."
    torch = profile.torch.version if profile.torch else None
    if torch is None or torch.split(".")[:2] != version.split(".")[:2]:
        return (
            f"IPEX {version} needs torch {'.'.join(version.split('.')[:2])}, "
            f"found {torch}; beside another its import fails."
        )
    return None
