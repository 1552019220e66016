"""What does distilling cost a step beyond the student's own step and the teacher's forward pass?

A Llama of 135M parameters (the shape of SmolLM2) and a T5 of 60M, each with a teacher of its own shape. The
floor is what transformers does: the student's forward and backward pass with its own cross-entropy, then the
teacher's forward pass. Beside it a whole step of DistillationTrainer: batch, teacher, cross-entropy and
divergence without all logits, backward. Random weights and tokens, float32, one thread; in turn in one
process, CPU seconds, the least of the repetitions, so that a busy machine disturbs little.

    python benchmarks/kd_step.py [--repetitions 3] [--small]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    TrainingArguments,
)

from distill_kd import DistillationTrainer, LiveTeacher, Objective

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL = 1.10
Models = tuple[Any, Any, dict[str, torch.Tensor]]  # student, teacher, batch


def llama(cut: int) -> Models:
    """Four rows of 256 tokens, as for language modelling."""
    config = LlamaConfig(
        vocab_size=49_152 // cut,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30 // cut,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    ids = torch.randint(3, config.vocab_size, (4, 256), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    return LlamaForCausalLM(config), LlamaForCausalLM(config).eval(), batch


def t5(cut: int) -> Models:
    """Eight rows of 128 tokens in and 64 out."""
    config = T5Config(
        vocab_size=32_128 // cut,
        d_model=512,
        d_ff=2048,
        num_layers=max(6 // cut, 1),
        num_heads=8,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(3, config.vocab_size, (8, 128), generator=draw)
    labels = torch.randint(3, config.vocab_size, (8, 64), generator=draw)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return T5ForConditionalGeneration(config), T5ForConditionalGeneration(config).eval(), batch


def floor(models: Models) -> None:
    """Each model alone."""
    student, teacher, batch = models
    student(**batch, use_cache=False).loss.backward()
    with torch.no_grad():
        teacher(**batch, use_cache=False)


def trainer_of(models: Models, task: Any, folder: str) -> DistillationTrainer:
    """One that holds the batch as its data."""
    student, teacher, batch = models
    rows = [{name: value[at] for name, value in batch.items()} for at in range(len(batch["labels"]))]
    return DistillationTrainer(
        student,
        teacher=LiveTeacher(teacher),
        objective=Objective(task),
        args=TrainingArguments(folder, use_cpu=True, report_to="none", dataloader_pin_memory=False),
        train_dataset=rows,
        data_collator=lambda found: {name: torch.stack([row[name] for row in found]) for name in batch},
    )


def compare(family: str, models: Models, task: Any, repetitions: int) -> float:
    """Print the CPU seconds of both; ours over the floor."""
    student, _, batch = models
    student.train()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(models, task, folder)
        tokens = torch.tensor(trainer.objective.count_tokens([batch["labels"]]))
        works: dict[str, Callable[[], object]] = {
            "floor": lambda: floor(models),
            "ours": lambda: trainer.training_step(student, dict(batch), tokens),
        }
        runs: dict[str, list[float]] = {kind: [] for kind in works}
        for _ in range(1 + repetitions):
            for kind, work in works.items():
                student.zero_grad()
                start = time.process_time()
                work()
                runs[kind].append(time.process_time() - start)
    read, labels = batch["input_ids"].numel(), batch["labels"].numel()
    print(f"\n{family}: {read:,} tokens read, {labels:,} labels; {repetitions} repetitions")
    for kind, found in runs.items():
        found.pop(0)  # what is set up on first use is not measured
        print(f"{kind:8}{min(found):8.2f} s (slowest {max(found):.2f})")
    ratio = min(runs["ours"]) / min(runs["floor"])
    word = "MISSED" if ratio > GOAL else "met"
    print(f"ours / floor {ratio:.3f}, at most {GOAL:.2f}: {word}", flush=True)
    return ratio


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="small models, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    name = names[0].partition(":")[2].strip() if names else platform.processor()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{name}, one of {os.cpu_count()} cores; {versions}")
    cut = 15 if options.small else 1
    ratios = [
        compare("Llama 135M", llama(cut), "causal", options.repetitions),
        compare("T5 60M", t5(cut), "seq2seq", options.repetitions),
    ]
    return int(max(ratios) > GOAL)


if __name__ == "__main__":
    sys.exit(main())
