"""One of two processes that train together; writes what it logged. Run by test_processes.py."""

import json
import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from distill_adapters import SafeTrainer
from distill_kd import DistillationTrainer, LiveTeacher, Objective


def gpt2(seed: int) -> GPT2LMHeadModel:
    """A tiny model without dropout."""
    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=24,
            n_embd=16,
            n_layer=1,
            n_head=2,
            n_positions=16,
            bos_token_id=1,
            eos_token_id=1,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=0.3,
        )
    )


def collate(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Pad on the right; row lengths differ, so processes hold unequal numbers of tokens."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (labels != -100).long(), "labels": labels}


def gathers(trainer: SafeTrainer, owner: type[SafeTrainer]) -> int:
    """How often processes exchange tokens for one step, as the trainer of that class prepares it."""
    count = 0
    gather = trainer.accelerator.gather

    def counting(values: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        gathered: torch.Tensor = gather(values)
        return gathered

    trainer.accelerator.gather = counting
    batches = iter(trainer.get_train_dataloader())
    owner.get_batch_samples(trainer, batches, 1, trainer.args.device)
    trainer.accelerator.gather = gather
    return count


def losses(folder: Path, *, processes: int) -> tuple[list[list[float]], list[int]]:
    """Loss, cross-entropy and divergence of three steps and of an evaluation, and the gathers of a step."""
    rows = [[5, 6, 1], [7, 8, 9, 10, 1], [11, 12, 13, 14, 15, 16, 1], [17, 1]]
    trainer = DistillationTrainer(
        gpt2(0),
        teacher=LiveTeacher(gpt2(1)),
        objective=Objective("causal", temperature=2.0),
        args=TrainingArguments(
            str(folder),
            max_steps=3,
            per_device_train_batch_size=4 // processes,
            per_device_eval_batch_size=4 // processes,
            learning_rate=0.05,
            lr_scheduler_type="constant",
            optim="sgd",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            ddp_backend="gloo" if processes > 1 else None,
        ),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=collate,
    )
    trainer.train()
    metrics = trainer.evaluate()
    steps = [
        [entry[key] for key in ("loss", "ce", "kd")] for entry in trainer.state.log_history if "loss" in entry
    ]
    counted = [gathers(trainer, owner) for owner in (DistillationTrainer, SafeTrainer)]
    return [*steps, [metrics[f"eval_{key}"] for key in ("loss", "ce", "kd")]], counted


if __name__ == "__main__":
    out = Path(sys.argv[1])
    values = losses(out / "run", processes=2)
    if torch.distributed.get_rank() == 0:
        (out / "losses.json").write_text(json.dumps(values))
