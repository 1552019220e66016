"""What a trainer costs beside the step itself: a bare loop, transformers' Trainer, TRL's SFTTrainer, ours.

A tiny Llama on 4 x 32 tokens, so that the fixed cost shows; one thread, CPU milliseconds a step. The loops
run in turn, ``--rounds`` times over, and the medians are compared. TRL is left out where it is not installed
(``pip install trl``, beside the project).

    python benchmarks/trainer_overhead.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset

STEPS = 60
WARM = 10
BATCH, TOKENS, VOCABULARY = 4, 32, 1000
CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": TOKENS,
}


def cpu_name() -> str:
    """As the kernel calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor()
    )


def model() -> Any:
    """The same weights each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**CONFIG))


def rows() -> Dataset:
    """Random tokens, all of one length, so that no collator has to pad."""
    import torch
    from datasets import Dataset

    ids = torch.randint(0, VOCABULARY, (BATCH * STEPS, TOKENS), generator=torch.Generator().manual_seed(0))
    return Dataset.from_list(
        [{"input_ids": row, "attention_mask": [1] * TOKENS, "labels": row} for row in ids.tolist()]
    )


def collate(features: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows to tensors, the same for every loop."""
    import torch

    names = ("input_ids", "attention_mask", "labels")
    return {name: torch.tensor([feature[name] for feature in features]) for name in names}


def per_step(ends: list[float]) -> float:
    """Milliseconds, the first steps left out."""
    return 1000 * (ends[-1] - ends[WARM]) / (len(ends) - 1 - WARM)


def clock() -> tuple[list[float], Any]:
    """Where CPU time stood at the end of each step, and the callback that notes it."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
            del args, state, control, options
            ends.append(time.process_time())

    return ends, Clock()


def bare() -> float:
    """Forward, backward, clipping, fused AdamW, schedule, and nothing else."""
    import torch
    from torch.utils.data import DataLoader

    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    ends = []
    network.train()
    data: Any = rows()
    for batch in DataLoader(data, batch_size=BATCH, shuffle=True, collate_fn=collate):
        network(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ends.append(time.process_time())
    return per_step(ends)


def shared(folder: str, **changes: Any) -> dict[str, Any]:
    """What both trainers of transformers are told; everything else is as shipped."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        "logging_steps": 10,
        **changes,
    }


def transformers_trainer() -> float:
    """``transformers.Trainer``."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    ends, callback = clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model(),
            args=TrainingArguments(**shared(folder)),
            train_dataset=rows(),
            data_collator=collate,
            callbacks=[callback],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return per_step(ends)


def ours() -> float:
    """``SafeTrainer`` with its checks: what is not finite, whether gradients arrive, progress."""
    from transformers import TrainingArguments

    from distill_adapters import SafeTrainer

    ends, callback = clock()
    with tempfile.TemporaryDirectory() as folder:
        SafeTrainer(
            model(),
            args=TrainingArguments(**shared(folder, logging_nan_inf_filter=False)),
            train_dataset=rows(),
            data_collator=collate,
            callbacks=[callback],
            on_progress=lambda _: None,
        ).train()
    return per_step(ends)


def sft(**changes: Any) -> Callable[[], float]:
    """TRL's ``SFTTrainer``, as shipped or with flags."""

    def run() -> float:
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast, PrinterCallback

        trl = importlib.import_module("trl")
        words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(VOCABULARY)}, unk_token="w0"))  # noqa: S106
        kind: Any = PreTrainedTokenizerFast
        tokenizer = kind(tokenizer_object=words, pad_token="w1", eos_token="w2")  # noqa: S106
        ends, callback = clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = trl.SFTTrainer(
                model(),
                args=trl.SFTConfig(**shared(folder, **changes)),
                train_dataset=rows(),
                processing_class=tokenizer,
                callbacks=[callback],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return per_step(ends)

    return run


def main() -> None:
    """Run every loop in turn, and print medians with their spread."""
    import torch
    import transformers

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    loops = {
        "bare loop, fused AdamW": bare,
        "transformers.Trainer": transformers_trainer,
        "SafeTrainer": ours,
    }
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    if importlib.util.find_spec("trl") is not None:
        versions += f", trl {importlib.import_module('trl').__version__}"
        loops["trl.SFTTrainer as shipped"] = sft()
        loops["  bf16=False, gradient_checkpointing=False"] = sft(bf16=False, gradient_checkpointing=False)
    print(f"{cpu_name()}, 1 thread; {versions}; {rounds} rounds of {STEPS} steps, CPU ms a step")
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            found[name].append(loop())
    base = statistics.median(found["bare loop, fused AdamW"])
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"{name:44}{middle:8.2f}  ({min(values):.2f} to {max(values):.2f})  {middle - base:+8.2f}")
    pairs = zip(found["SafeTrainer"], found["transformers.Trainer"], strict=True)
    more = statistics.median(mine - theirs for mine, theirs in pairs)
    print(f"SafeTrainer - Trainer, median of the rounds: {more:+.2f} ms (goal: at most 0.5)")


if __name__ == "__main__":
    main()
