"""The device of a policy: the first accelerator that the installed torch can run, otherwise the CPU."""

from dataclasses import dataclass

from distill_hwdetect.policy import Choice
from distill_hwdetect.profile import Accelerator, HardwareProfile
from distill_hwdetect.refusals import unsupported
from distill_hwdetect.rules import choose, gib

PREFIX = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "mps": "mps"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The device of a policy.

    Args:
        choice: The name of the device, and the reason.
        kind: ``cpu``, ``cuda``, ``rocm``, ``xpu`` or ``mps``.
        accelerator: The device, None for the processor.
        free_bytes: Memory that is free on it, None when not known.
    """

    choice: Choice[str]
    kind: str
    accelerator: Accelerator | None
    free_bytes: int | None

    @property
    def name(self) -> str:
        """As torch writes it."""
        return self.choice.value


def pick_device(profile: HardwareProfile, override: object = "auto") -> Target:
    """Pick the device.

    Args:
        profile: The machine.
        override: ``auto``, ``cpu``, or a device as torch writes it, with or without an index.

    Returns:
        The device, with the ones that were passed over in ``choice.rejected``.

    Raises:
        UnsupportedPolicyError: The device that was asked for is not there or cannot be run.
    """
    rejected: list[tuple[str, str]] = []
    usable: list[Accelerator] = []
    for device in profile.accelerators:
        obstacle = obstacle_of(device, profile)
        if obstacle is None:
            usable.append(device)
        else:
            rejected.append((device_name(device), obstacle))
    if override not in ("auto", None):
        return _asked(profile, str(override), usable, rejected)
    if usable:
        return _accelerated(profile, usable[0], "device-accelerator", tuple(rejected))
    if rejected:
        reason = "; ".join(why for _, why in rejected)
        return _processor(profile, "device-cpu-unusable", reason, tuple(rejected))
    return _processor(profile, "device-cpu", "No accelerator was found." + _static(profile), ())


def device_name(device: Accelerator) -> str:
    """Return the device as torch writes it; AMD devices are ``cuda`` there too."""
    return "mps" if device.kind == "mps" else f"{PREFIX[device.kind]}:{device.index}"


def obstacle_of(device: Accelerator, profile: HardwareProfile) -> str | None:
    """Return why the installed torch cannot run a device, with the remedy; None when it can."""
    torch = profile.torch
    if device.hidden_by is not None:
        return f"{device.name} is hidden by {device.hidden_by}: change or unset it."
    if device.kind == "cuda" and device.capability is not None and device.capability < (6, 0):
        return (
            f"{device.name} has compute capability "
            f"{_dotted(device.capability)}; bitsandbytes and torch need 6.0."
        )
    if torch is None:
        return None
    if device.kind == "cuda":
        return _cuda_obstacle(device, profile)
    if device.kind == "rocm" and torch.hip == "":
        return (
            f"{device.name} is there, but this torch is built without ROCm: install the rocm wheel of torch."
        )
    if device.kind == "xpu" and torch.xpu is False:
        return f"{device.name} is there, but this torch has no XPU: install the xpu wheel of torch."
    if device.kind == "mps" and torch.mps is False:
        return f"{device.name} is there, but this torch cannot use Metal: install torch for arm64 macOS."
    return None


def _cuda_obstacle(device: Accelerator, profile: HardwareProfile) -> str | None:
    torch = profile.torch
    if torch is None:
        return None
    if torch.cuda == "":
        return (
            f"{device.name} is there, but this torch is built without CUDA: install the CUDA wheel of torch."
        )
    if torch.cuda and device.driver_cuda and _major(device.driver_cuda) < _major(torch.cuda):
        return (
            f"{device.name} is there, but driver {device.driver} "
            f"runs CUDA up to {device.driver_cuda} and this torch "
            f"needs {torch.cuda}: update the driver, or install a "
            f"torch built for CUDA {_major(device.driver_cuda)}."
        )
    if device.capability is not None and not _has_kernels(device.capability, torch.arch_list, torch.cuda):
        cc = _dotted(device.capability)
        wanted = f"a torch built with sm_{cc.replace('.', '')}"
        # CUDA 13 knows nothing before Turing; torch 2.14 was the last to be built for CUDA 12.
        remedy = (
            f"{wanted}, such as 2.14 for CUDA 12.6"
            if device.capability < (7, 5)
            else f"a newer one, {wanted}"
        )
        return (
            f"{device.name} has compute capability {cc}, for which this torch (CUDA {torch.cuda}) has no "
            f"kernels: install {remedy}."
        )
    if torch.cuda_available is False:
        return f"{device.name} is there, but torch.cuda.is_available() is False: check the driver."
    return None


def _has_kernels(capability: tuple[int, int], arch_list: tuple[str, ...] | None, cuda: str | None) -> bool:
    """Whether a wheel runs a device: kernels run on a later minor version of their major one."""
    if arch_list is None:
        # CUDA 13 dropped everything before Turing.
        return not (cuda and _major(cuda) >= 13 and capability < (7, 5))
    built = []
    for arch in arch_list:
        digits = arch.removeprefix("sm_").rstrip("af")
        if arch.startswith("sm_") and digits.isdigit():
            built.append((int(digits[:-1]), int(digits[-1])))
    return any(major == capability[0] and minor <= capability[1] for major, minor in built)


def _major(version: str) -> int:
    head = version.split(".", maxsplit=1)[0]
    return int(head) if head.isdigit() else 0


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _static(profile: HardwareProfile) -> str:
    return " torch is not installed: this is the static answer." if profile.torch is None else ""


def _asked(
    profile: HardwareProfile, asked: str, usable: list[Accelerator], rejected: list[tuple[str, str]]
) -> Target:
    if asked == "cpu":
        others = tuple((device_name(device), "the user asked for the CPU") for device in usable)
        return _processor(profile, "override", "The user asked for the CPU.", (*rejected, *others))
    for device in usable:
        if asked in (device_name(device), PREFIX[device.kind], device.kind):
            return _accelerated(profile, device, "override", tuple(rejected))
    names = (*(device_name(device) for device in usable), "cpu")
    for name, why in rejected:
        if asked in (name, name.split(":")[0]):
            raise unsupported("device", asked, why.rstrip("."), names)
    raise unsupported("device", asked, f"this machine has {', '.join(reversed(names))}", names)


def _accelerated(
    profile: HardwareProfile, device: Accelerator, rule: str, rejected: tuple[tuple[str, str], ...]
) -> Target:
    free = device.total_bytes if device.free_bytes is None else device.free_bytes
    if device.unified and profile.memory.available_bytes:
        # Shared memory is free only as far as the host has not taken it.
        free = min(profile.memory.available_bytes, free or profile.memory.available_bytes)
    memory = "memory not known" if free is None else f"{gib(free)} free"
    shared = ", shared with the host" if device.unified else ""
    reason = f"{device.name} ({memory}{shared})." + _static(profile)
    others = sum(1 for other in profile.accelerators if other.hidden_by is None) - 1
    if others > 0:
        reason += (
            f" {others} more: data parallel with one process "
            "each; a model is never spread by device_map='auto'."
        )
    if rule == "override":
        reason = "The user asked for it: " + reason
    rejected = (*rejected, ("cpu", "an accelerator is there and this torch can run it"))
    choice = choose(rule, device_name(device), reason, rejected)
    return Target(choice=choice, kind=device.kind, accelerator=device, free_bytes=free)


def _processor(
    profile: HardwareProfile, rule: str, reason: str, rejected: tuple[tuple[str, str], ...]
) -> Target:
    return Target(
        choice=choose(rule, "cpu", reason, rejected),
        kind="cpu",
        accelerator=None,
        free_bytes=profile.memory.available_bytes or None,
    )
