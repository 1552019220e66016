"""The rules as data: what each decides, when, and where it comes from; and which facts are read for it.

Reasons are written where the facts of a machine are known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from distill_hwdetect.policy import Choice
from distill_hwdetect.profile import HardwareProfile

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """One row: the policy field it decides, the condition in words, and its source."""

    field: str
    when: str
    source: str


_BF16 = "pytorch torch/cuda/__init__.py is_bf16_supported (major >= 8); pytorch#148322 for the emulated yes"
_MEASURED_CPU = "measured: Linear forward+backward in bfloat16 10-16 times slower than float32 on AVX2"

RULES: Mapping[str, Rule] = {
    "device-accelerator": Rule(
        "device", "a device that the installed torch can run", "torch arch lists, bitsandbytes README"
    ),
    "device-cpu": Rule("device", "no accelerator is present", "facts of the machine"),
    "device-cpu-unusable": Rule(
        "device",
        "an accelerator is present and cannot be run",
        "PyPI torch 2.15 arch list; CUDA compatibility",
    ),
    "dtype-cpu-float32": Rule("compute_dtype", "CPU without AVX512_BF16, AMX or ARM bf16", _MEASURED_CPU),
    "dtype-cpu-bfloat16": Rule(
        "compute_dtype",
        "x86 with AVX512_BF16 or AMX_BF16",
        "measured: training step 1.4-1.7 times, forward 2.1-2.6 times faster",
    ),
    "dtype-probe-float32": Rule(
        "compute_dtype", "a deep probe ran bfloat16 no faster than float32", "the probe of this machine"
    ),
    "dtype-probe-bfloat16": Rule(
        "compute_dtype",
        "ARM with bf16, training, and a deep probe ran it faster than float32",
        "the probe of this machine",
    ),
    "dtype-arm-train": Rule("compute_dtype", "ARM with bf16, training", "gain not measured; a probe decides"),
    "dtype-arm-run": Rule("compute_dtype", "ARM with bf16, running", "Arm bf16 extension (BFMMLA)"),
    "dtype-cuda-bfloat16": Rule("compute_dtype", "NVIDIA compute capability of at least 8.0", _BF16),
    "dtype-cuda-float16": Rule("compute_dtype", "NVIDIA compute capability below 8.0", _BF16),
    "dtype-rocm-bfloat16": Rule(
        "compute_dtype", "AMD CDNA, RDNA3 and later", "bitsandbytes README; ROCm WMMA/MFMA"
    ),
    "dtype-rocm-float16": Rule("compute_dtype", "AMD RDNA1 and RDNA2 (gfx10)", "unsloth#7682, #7922"),
    "dtype-xpu-bfloat16": Rule(
        "compute_dtype", "Intel Arc, Max and Core Ultra GPUs", "PyTorch 2.15 get_start_xpu"
    ),
    "dtype-mps-bfloat16": Rule("compute_dtype", "Apple M3 and later on macOS 14 and later", "Soup#563, #564"),
    "dtype-mps-float32": Rule(
        "compute_dtype", "Apple M1 and M2, training", "transformers import_utils comment: emulated"
    ),
    "dtype-mps-float16": Rule(
        "compute_dtype", "Apple M1 and M2, running", "transformers import_utils comment: emulated"
    ),
    "dtype-family-float32": Rule(
        "compute_dtype",
        "a family that overflows float16 where bfloat16 is not available",
        "transformers#5651, #4586, #10956, #23918",
    ),
    "storage-master": Rule(
        "storage_dtype", "all weights are trained", "Micikevicius et al. 2018, arXiv:1710.03740"
    ),
    "storage-compute": Rule(
        "storage_dtype", "weights are frozen or only run", "QLoRA, arXiv:2305.14314, section 3"
    ),
    "quantization-fits": Rule(
        "quantization",
        "the weights fit as they are",
        "measured: nf4 cost 0.54 nats on a 135M model, int8 0.006",
    ),
    "quantization-to-fit": Rule("quantization", "they fit only when quantized", "QLoRA, arXiv:2305.14314"),
    "quantization-asked": Rule("quantization", "QLoRA was asked for", "QLoRA, arXiv:2305.14314"),
    "adapter-asked": Rule("adapter", "the requirements name it", "the requirements"),
    "adapter-lora": Rule("adapter", "a pretrained model that fits", "LoRA, arXiv:2106.09685"),
    "adapter-qlora": Rule("adapter", "a pretrained model that fits only in nf4", "QLoRA, arXiv:2305.14314"),
    "adapter-none": Rule("adapter", "the model is only run", "nothing is trained"),
    "optimizer-fused": Rule(
        "optimizer",
        "CPU, or a device with room for its states",
        "measured on a CPU: fused 2.5, plain 10.0 ms a step",
    ),
    "optimizer-8bit": Rule(
        "optimizer",
        "its states would not fit otherwise",
        "measured: 8-bit AdamW keeps 2.04 bytes a parameter, not 8",
    ),
    "optimizer-paged": Rule(
        "optimizer", "QLoRA on a device with its own memory", "QLoRA, arXiv:2305.14314, section 3"
    ),
    "optimizer-xpu": Rule("optimizer", "QLoRA on Intel GPUs", "bitsandbytes README: 8-bit optimizers on XPU"),
    "optimizer-mps": Rule("optimizer", "Apple GPUs", "bitsandbytes README: 8-bit optimizers planned"),
    "optimizer-unused": Rule("optimizer", "the model is only run", "nothing is trained"),
    "checkpointing-off": Rule(
        "gradient_checkpointing",
        "activations fit",
        "it recomputes each forward pass, about a third more time",
    ),
    "checkpointing-to-fit": Rule(
        "gradient_checkpointing", "activations do not fit otherwise", "Chen et al. 2016, arXiv:1604.06174"
    ),
    "attention-sdpa": Rule(
        "attention", "families with scaled-dot-product kernels", "transformers 5.24, _supports_sdpa"
    ),
    "attention-eager": Rule(
        "attention", "families without them", "transformers modeling files, _supports_sdpa"
    ),
    "compile-off": Rule(
        "compile", "every device", "needs a compiler, and pays only over long runs of equal shapes"
    ),
    "batch-fits": Rule(
        "micro_batch", "the largest divisor of the effective batch that fits", "memory estimate"
    ),
    "accumulation": Rule("accumulation", "effective batch / micro-batch", "arithmetic"),
    "workers-none": Rule(
        "workers", "data is tokenized already, or at most 2 usable CPUs", "a worker costs a core and a copy"
    ),
    "workers": Rule("workers", "tokenizing while training on more than 2 CPUs", "min(4, CPUs / 2)"),
    "threads-cores": Rule("threads", "usable cores, not their hardware threads", "psutil#2100, batpred#4771"),
    "threads-shared": Rule(
        "threads",
        "several stages side by side on a CPU",
        "usable cores / stages, so that none waits for a core",
    ),
    "stages-side-by-side": Rule(
        "parallel_stages",
        "a CPU of several cores, memory for each, stages that need not wait",
        "measured: two processes of one thread trained 0.6 M parameters 1.5 times as fast as one of two",
    ),
    "stages-one": Rule(
        "parallel_stages",
        "one device, one core or one stage",
        "two trainings side by side share its cores and memory",
    ),
    "offload-off": Rule("offload", "every device", "trading steps for memory comes after a smaller type"),
    "ipex-off": Rule(
        "ipex",
        "not installed, another torch, or no gain",
        "measured: stock fused AdamW takes more than all of IPEX's gain; IPEX#867",
    ),
    "ipex-helps": Rule(
        "ipex",
        "running in bfloat16 on several threads",
        "measured: forward pass 1.2 times faster, training not",
    ),
    "override": Rule("*", "the user set it", "the user"),
}


@dataclass(frozen=True)
class Flag:
    """One yes or no that detection reads of a machine.

    Args:
        decides: The field of a policy that turns on it, ``""`` where none does.
        unless: When it decides nothing, in words.
        matters: The same, to be asked of a machine: whether turning the flag over changes a decision there.
    """

    decides: str
    unless: str
    matters: Callable[[HardwareProfile], bool]


def _never(profile: HardwareProfile) -> bool:
    del profile
    return False


def _bfloat16(other: str, *, arm: bool) -> Callable[[HardwareProfile], bool]:
    def matters(profile: HardwareProfile) -> bool:
        return profile.cpu.is_arm == arm and other not in profile.cpu.flags

    return matters


_ELSEWHERE = "an accelerator computes"
_SHOWN = "always: it is shown, and no rule reads it"
FLAGS: Mapping[str, Flag] = {
    "amx_bf16": Flag(
        "compute_dtype", f"{_ELSEWHERE}, or avx512_bf16 is there", _bfloat16("avx512_bf16", arm=False)
    ),
    "amx_tile": Flag("", _SHOWN, _never),
    "asimd": Flag("quantization", f"{_ELSEWHERE}, or on x86", lambda profile: profile.cpu.is_arm),
    "avx2": Flag("quantization", f"{_ELSEWHERE}, or on ARM", lambda profile: not profile.cpu.is_arm),
    "avx512_bf16": Flag(
        "compute_dtype", f"{_ELSEWHERE}, or amx_bf16 is there", _bfloat16("amx_bf16", arm=False)
    ),
    "avx512f": Flag("", _SHOWN, _never),
    "avx_ne_convert": Flag("", "always: it converts bfloat16 and does not multiply it", _never),
    "avx_vnni": Flag("", _SHOWN, _never),
    "bf16": Flag("compute_dtype", f"{_ELSEWHERE}, or on x86", _bfloat16("", arm=True)),
    "i8mm": Flag("", _SHOWN, _never),
    "sve": Flag("", _SHOWN, _never),
}


def choose(rule: str, value: T, reason: str, rejected: tuple[tuple[str, str], ...] = ()) -> Choice[T]:
    """Make the choice of a rule; its source comes from the table."""
    return Choice(value=value, rule=rule, reason=reason, source=RULES[rule].source, rejected=rejected)


def gib(number: float) -> str:
    """Write bytes as a person reads them."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if number >= size / 2:
            return f"{number / size:.{1 if unit == 'GiB' else 0}f} {unit}"
    return f"{number / 2**10:.0f} KiB"
