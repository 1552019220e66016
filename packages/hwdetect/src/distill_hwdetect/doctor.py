"""What is missing or mismatched on a machine, each with the command that fixes it."""

from collections.abc import Iterator
from dataclasses import dataclass

from distill_hwdetect.devices import device_name, obstacle_of
from distill_hwdetect.profile import Accelerator, HardwareProfile
from distill_hwdetect.rules import gib

# The release whose backends for CPU, CUDA, ROCm, XPU and MPS are those of the decision table.
_BITSANDBYTES = (0, 50)
_SMALL_DISK_BYTES = 10 * 2**30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is missing or mismatched.

    Args:
        subject: What it concerns: a device, a package, the container.
        problem: What was found, in a sentence.
        command: The command that fixes it, or, if there is none, what to do.
        broken: True if something is present and cannot be used; False for a limit that the user should know.
    """

    subject: str
    problem: str
    command: str
    broken: bool

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types."""
        return {
            "subject": self.subject,
            "problem": self.problem,
            "command": self.command,
            "broken": self.broken,
        }


def diagnose(profile: HardwareProfile) -> tuple[Finding, ...]:
    """Return what is missing or mismatched on a machine, each with a fix; what is broken comes first.

    Args:
        profile: The machine, from ``detect()`` or a recording. A deep probe finds more.

    Example:
        >>> from distill_hwdetect import CpuFacts, HardwareProfile, MemoryFacts, diagnose
        >>> memory = MemoryFacts(total_bytes=8 * 2**30, available_bytes=6 * 2**30)
        >>> for finding in diagnose(HardwareProfile(cpu=CpuFacts(), memory=memory, torch=None)):
        ...     print(finding.subject, "->", finding.command)
        torch -> uv pip install --reinstall torch --torch-backend=auto
    """
    found = [*_torch(profile), *_devices(profile), *_packages(profile), *_limits(profile)]
    return tuple(sorted(found, key=lambda finding: not finding.broken))


def _torch(profile: HardwareProfile) -> Iterator[Finding]:
    if profile.torch is None:
        yield Finding(
            subject="torch",
            problem="It is not installed: policies assume that everything the hardware can do is available.",
            command=_install("auto"),
            broken=True,
        )


def _devices(profile: HardwareProfile) -> Iterator[Finding]:
    seen = {device.kind for device in profile.accelerators if device.hidden_by is None}
    for device in profile.accelerators:
        obstacle = obstacle_of(device, profile)
        if obstacle is not None and not (device.hidden_by and device.kind in seen):
            yield Finding(
                subject=device_name(device),
                problem=obstacle,
                command=_fix_device(device, profile),
                broken=True,
            )
        elif obstacle is None and device.total_bytes is None and not device.unified:
            yield Finding(
                subject=device_name(device),
                problem=f"The memory of {device.name} is not known, so a policy cannot check what fits.",
                command="distill-hwdetect --deep",
                broken=False,
            )
    if any("PCI_BUS_ID" in note for note in profile.notes):
        yield Finding(
            subject="CUDA_DEVICE_ORDER",
            problem="The GPUs differ, and CUDA numbers them in another order than nvidia-smi.",
            command="export CUDA_DEVICE_ORDER=PCI_BUS_ID",
            broken=False,
        )


def _fix_device(device: Accelerator, profile: HardwareProfile) -> str:
    """Return the command that makes a device usable."""
    if device.hidden_by is not None:
        return f"unset {device.hidden_by.partition('=')[0]}"
    if device.kind != "cuda":
        return _install("xpu" if device.kind == "xpu" else "auto")
    if device.capability is not None and device.capability < (6, 0):
        return "nothing to install: no current torch runs it; the policy uses the CPU"
    torch = profile.torch
    older = _install("cu126", "'torch==2.14.*'")
    old_driver = device.driver_cuda is not None and int(device.driver_cuda.partition(".")[0]) < 13
    if device.capability is not None and device.capability < (7, 5):
        return older
    if torch is not None and torch.cuda and old_driver:
        return f"update NVIDIA's driver, or {older}"
    return _install("auto")


def _install(backend: str, what: str = "torch") -> str:
    """Return uv's command: it knows the index of each build of torch, and pip has to be told."""
    return f"uv pip install --reinstall {what} --torch-backend={backend}"


def _packages(profile: HardwareProfile) -> Iterator[Finding]:
    packages = profile.packages
    if packages is None:
        return
    ipex, torch = packages.get("intel-extension-for-pytorch"), profile.torch
    if ipex is not None and torch is not None and _numbers(torch.version)[:2] != _numbers(ipex)[:2]:
        yield Finding(
            subject="intel-extension-for-pytorch",
            problem=f"{ipex} works only with its own torch, found {torch.version}; its import fails with "
            "AttributeError, which `except ImportError` does not catch.",
            command="pip uninstall --yes intel-extension-for-pytorch",
            broken=True,
        )
    version = packages.get("bitsandbytes")
    if version is None:
        yield Finding(
            subject="bitsandbytes",
            problem="It is not installed: weights cannot be quantized, and QLoRA is refused.",
            command="pip install bitsandbytes",
            broken=False,
        )
    elif _numbers(version) < _BITSANDBYTES:
        yield Finding(
            subject="bitsandbytes",
            problem=f"{version} lacks backends for CPUs, AMD, Intel or Apple GPUs that 0.50 has.",
            command="pip install --upgrade 'bitsandbytes>=0.50'",
            broken=True,
        )
    elif "kernels" in packages and "avx512_bf16" in profile.cpu.flags:
        yield Finding(
            subject="bitsandbytes",
            problem="With kernels installed, importing it on this processor sends requests to the hub.",
            command="export HF_HUB_OFFLINE=1",
            broken=False,
        )


def _limits(profile: HardwareProfile) -> Iterator[Finding]:
    memory, cpu = profile.memory, profile.cpu
    if memory.limit_bytes is not None and memory.host_bytes:
        yield Finding(
            subject="cgroup",
            problem=f"Memory is limited to {gib(memory.limit_bytes)} of {gib(memory.host_bytes)}; tools that "
            "ask psutil count on all of it and are killed.",
            command="docker update --memory=BYTES --memory-swap=BYTES CONTAINER, or the limit of the job",
            broken=False,
        )
    threads = profile.environment.get("OMP_NUM_THREADS", "")
    wanted = int(threads) if threads.isdigit() else cpu.logical_cores
    if cpu.usable_cores < wanted:
        yield Finding(
            subject="threads",
            problem=f"{cpu.usable_cores} CPUs are usable, and OpenMP starts {wanted} threads.",
            command=f"export OMP_NUM_THREADS={cpu.usable_cores}",
            broken=False,
        )
    if profile.disk_free_bytes is not None and profile.disk_free_bytes < _SMALL_DISK_BYTES:
        yield Finding(
            subject="disk",
            problem=f"{gib(profile.disk_free_bytes)} are free here: checkpoints and model caches need more.",
            command="export HF_HOME=FOLDER_ON_A_LARGER_DISK",
            broken=False,
        )
    if profile.environment.get("wsl"):
        yield Finding(
            subject="wsl",
            problem=f"WSL gives this system {gib(memory.total_bytes)}, by default half of what Windows has.",
            command="set memory= under [wsl2] in %UserProfile%\\.wslconfig, then wsl --shutdown",
            broken=False,
        )


def _numbers(version: str | None) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``2.8.0+cpu`` is (2, 8, 0)."""
    found = []
    for part in (version or "").partition("+")[0].split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)
