"""Fifty real steps on this machine's accelerator: on CUDA nf4 with double quantization and paged 8-bit AdamW.

Prints the machine, each policy, the losses, the peak memory and the time; exits 1 where there is no usable
accelerator. ``--cpu`` runs the same on a CPU with a smaller model, which checks this script and nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from tiny_models import TASKS, save_tiny, train

if TYPE_CHECKING:
    from distill_adapters import LoadedModel
    from distill_hwdetect import ExecutionPolicy

STEPS = 50
EFFECTIVE_BATCH = 8
# Large enough that weights and optimizer show in the peak, and small enough for any card.
WIDE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12, "num_attention_heads": 16}


def requested(policy_of: Any, *, cpu: bool) -> list[tuple[str, ExecutionPolicy]]:
    """The policies to run: QLoRA with checkpointing where the machine takes it, LoRA, full for seq2seq."""
    from distill_hwdetect import UnsupportedPolicyError

    found = []
    overrides = {"device": "cpu"} if cpu else {}
    for family, adapter in (("llama", "qlora"), ("llama", "lora"), ("marian", "full"), ("bert", "lora")):
        wanted = overrides | ({"gradient_checkpointing": "on"} if adapter == "qlora" else {})
        try:
            found.append((family, policy_of(family, adapter, wanted)))
        except UnsupportedPolicyError as error:
            print(f"{family} {adapter}: refused: {error}")
    return found


def check_nf4(loaded: LoadedModel) -> str:
    """Print how the quantized layers are stored; raise if it is not nf4 with double quantization."""
    layers: Any = loaded.model.modules()  # bitsandbytes' layers are untyped
    states = [
        module.weight.quant_state
        for module in layers
        if type(module).__name__ == "Linear4bit" and hasattr(module.weight, "quant_state")
    ]
    if not states or any(state.quant_type != "nf4" or not state.nested for state in states):
        raise RuntimeError("the policy says nf4 with double quantization, and the layers are not")
    return f"{len(states)} layers in nf4, double quantization"


def shape(family: str, *, cpu: bool) -> dict[str, int]:
    """How the model differs from the tiny one."""
    return {} if cpu or family != "llama" else WIDE


def run_one(family: str, policy: ExecutionPolicy, folder: Path, *, cpu: bool) -> None:
    """Train and print the record."""
    import torch

    on_cuda = policy.device.value.startswith("cuda")
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    seen, loaded = train(
        save_tiny(family, folder / "model", **shape(family, cpu=cpu)),
        policy,
        folder / "out",
        task=TASKS[family],
        steps=STEPS,
        effective_batch=EFFECTIVE_BATCH,
    )
    seconds = time.perf_counter() - started
    print(f"\n{family}: {', '.join(f'{field} {value}' for field, value, _ in policy.explain())}")
    if policy.quantization.value == "nf4":
        print(check_nf4(loaded))
    print(f"optimizer {seen.optimizer} ({seen.arguments.optim.value}), checkpointing {seen.checkpointing}")
    print(f"loss {' '.join(f'{loss:.3f}' for loss in seen.losses)}; {STEPS} steps in {seconds:.1f} s")
    if on_cuda:
        print(f"peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on {torch.cuda.get_device_name()}")
    if not seen.losses[-1] < seen.losses[0]:
        raise RuntimeError(f"the loss did not fall: {seen.losses}")


def main() -> int:
    """Detect, choose policies, train; 1 if there is nothing but a CPU."""
    from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="check this script on a CPU")
    arguments = parser.parse_args()
    profile = detect()

    def policy_of(family: str, adapter: Any, overrides: dict[str, object]) -> ExecutionPolicy:
        task: Any = TASKS[family]
        model = read_model_facts({"model_type": family, **shape(family, cpu=arguments.cpu)})
        return choose_policy(
            profile,
            Requirements(
                task=task,
                model=model,
                adapter=adapter,
                effective_batch=EFFECTIVE_BATCH,
                overrides=overrides,
            ),
        )

    chosen = policy_of("llama", "auto", {}).device
    print(f"device {chosen.value}: {chosen.reason}")
    if chosen.value == "cpu" and not arguments.cpu:
        print("No usable accelerator: nothing was checked.", file=sys.stderr)
        return 1
    for family, policy in requested(policy_of, cpu=arguments.cpu):
        with tempfile.TemporaryDirectory() as folder:
            run_one(family, policy, Path(folder), cpu=arguments.cpu)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
