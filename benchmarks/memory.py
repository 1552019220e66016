"""How far is the memory estimate of distill-hwdetect from the peak of real training steps on a CPU?

Each cell trains two steps with this project's own trainers, in a forked process: the peak of its resident
memory (VmHWM, reset when the model is loaded) less what the process held at the fork. The estimate sees the
configuration alone. Six cells fit the constants and are printed apart; the others count.

    python benchmarks/memory.py [--runs 3] [--only WORDS]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy, HardwareProfile, MemoryEstimate, ModelFacts

MIB = 2**20
TASKS = {"llama": "causal", "t5": "seq2seq", "marian": "seq2seq", "bert": "masked"}
# Names of configuration fields: width, inner width, blocks, heads, vocabulary.
SIZES = {
    "s": (512, 1408, 6, 8, 8192),
    "m": (768, 2048, 8, 12, 16384),
    "l": (1024, 2816, 12, 16, 32000),
}


@dataclass(frozen=True)
class Cell:
    """One training run: model, what is trained, how, and on how much text."""

    family: str
    size: str
    adapter: str
    checkpointing: bool = False
    batch: int = 4
    source: int = 256
    target: int = 64
    distillation: str = "none"
    dropout: float = 0.05

    def __str__(self) -> str:
        """Short enough for a table."""
        kind = self.adapter if self.distillation == "none" else f"KD {self.distillation} {self.adapter}"
        ckpt = " ckpt" if self.checkpointing else ""
        length = f"{self.source}+{self.target}" if TASKS[self.family] == "seq2seq" else str(self.source)
        return f"{self.family}-{self.size} {kind}{ckpt} {self.batch}x{length}"


FITTED = (
    Cell("llama", "s", "full", batch=4),
    Cell("llama", "s", "lora", batch=4),
    Cell("t5", "s", "full", batch=4),
    Cell("bert", "s", "lora", batch=4, checkpointing=True),
    Cell("llama", "s", "qlora", batch=2),
    Cell("bert", "s", "full", batch=2, distillation="chunked"),
)
HELD_OUT = (
    *(
        Cell(family, size, adapter, checkpointing=checkpointing, batch=1, distillation=distillation)
        for family in ("llama", "t5", "bert")
        for size, adapter, distillation in (
            ("m", "full", "none"),
            ("l", "lora", "none"),
            ("l", "qlora", "none"),
            ("m", "full", "chunked"),
        )
        for checkpointing in (False, True)
    ),
    Cell("marian", "m", "full", batch=1),
    Cell("marian", "m", "lora", batch=4),
    Cell("llama", "m", "lora", batch=4),
    Cell("bert", "m", "lora", batch=4),
    Cell("llama", "m", "full", batch=1, source=512),
    Cell("t5", "m", "lora", batch=4),
)


def configuration(cell: Cell, *, deeper: bool = False) -> dict[str, object]:
    """The model of a cell; its teacher has twice the blocks."""
    width, inner, depth, heads, vocabulary = SIZES[cell.size]
    depth *= 2 if deeper else 1
    positions = max(cell.source, cell.target) + 2
    if cell.family == "t5":
        shape = {"d_model": width, "d_ff": inner, "d_kv": width // heads, "num_heads": heads}
        shape |= {"num_layers": depth // 2, "num_decoder_layers": depth // 2}
    elif cell.family == "marian":
        shape = {"d_model": width, "max_position_embeddings": positions}
        for side in ("encoder", "decoder"):
            shape |= {f"{side}_layers": depth // 2, f"{side}_ffn_dim": inner}
            shape |= {f"{side}_attention_heads": heads}
    else:
        shape = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": depth}
        shape |= {"num_attention_heads": heads, "max_position_embeddings": positions}
    return {"model_type": cell.family, "vocab_size": vocabulary, **shape}


def facts(cell: Cell, *, deeper: bool = False) -> ModelFacts:
    """What the configuration says of its size."""
    from distill_hwdetect import read_model_facts

    return read_model_facts(configuration(cell, deeper=deeper))


def policy_of(cell: Cell, profile: HardwareProfile) -> ExecutionPolicy:
    """The policy that a cell prescribes."""
    from distill_hwdetect import Requirements, plan

    wishes = {"micro_batch": cell.batch, "gradient_checkpointing": cell.checkpointing, "device": "cpu"}
    wishes |= {"compute_dtype": "float32", "optimizer": "adamw_torch_fused"}
    adapter: Any = cell.adapter
    task: Any = TASKS[cell.family]
    needs = Requirements(
        task=task, model=facts(cell), effective_batch=cell.batch, adapter=adapter, overrides=wishes
    )
    return plan(profile, needs)


def predicted(cell: Cell, policy: ExecutionPolicy) -> MemoryEstimate:
    """What the estimate says, from the configuration alone."""
    from distill_hwdetect import estimate_memory

    task: Any = TASKS[cell.family]
    how: Any = cell.distillation
    return estimate_memory(
        facts(cell),
        policy,
        task=task,
        source_length=cell.source,
        target_length=cell.target,
        teacher=None if cell.distillation == "none" else facts(cell, deeper=True),
        distillation=how,
        lora_dropout=cell.dropout,
    )


def rows(cell: Cell) -> list[dict[str, object]]:
    """Texts without padding."""
    made: list[dict[str, object]] = []
    for number in range(cell.batch):
        ids = [5 + (number + place * 3) % 91 for place in range(cell.source)]
        row: dict[str, object] = {"input_ids": ids, "attention_mask": [1] * len(ids), "row_id": number}
        if TASKS[cell.family] == "seq2seq":
            row["labels"] = ids[: cell.target] + [7] * (cell.target - len(ids[: cell.target]))
        elif TASKS[cell.family] == "causal":
            row["labels"] = list(ids)
        made.append(row)
    return made


def resident(name: str) -> int:
    """A line of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def run_cell(cell: Cell, policy: ExecutionPolicy, folder: Path) -> int:
    """Load, train two steps, and return the peak of resident memory above that of the start, in bytes."""
    before = resident("VmRSS")
    from datasets import Dataset

    from distill_adapters import AdapterConfig, FineTuner, SafeTrainer, TrainSettings, attach, load_model

    task: Any = TASKS[cell.family]
    loaded = load_model(folder / "model", policy, task)
    if cell.adapter != "full":
        kind: Any = cell.adapter
        loaded = attach(loaded, AdapterConfig(kind=kind, dropout=cell.dropout))
    settings = TrainSettings(steps=2, batch_size=cell.batch, learning_rate=1e-4, warmup=0.0)
    data = Dataset.from_list(rows(cell) * 2)
    tuner = FineTuner(loaded, settings=settings, policy=policy, output_dir=folder / "out", seed=1)
    trainer: SafeTrainer = tuner._trainer({"train": data})
    if cell.distillation != "none":
        trainer = distiller(cell, policy, folder, loaded, settings, data, tuner.data_collator)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    trainer.train()
    return resident("VmHWM") - before


def distiller(
    cell: Cell, policy: Any, folder: Path, loaded: Any, settings: Any, data: Any, collator: Any
) -> Any:
    """The trainer of a cell that learns from a live teacher."""
    from distill_adapters import load_model
    from distill_adapters.arguments import training_arguments
    from distill_kd import DistillationTrainer, LiveTeacher, Objective

    task: Any = TASKS[cell.family]
    teacher = load_model(folder / "teacher", policy, task, training=False)
    return DistillationTrainer(
        loaded.model,
        teacher=LiveTeacher(teacher.model),
        objective=Objective(task),
        args=training_arguments(settings, policy, folder / "out", task=task, seed=1),
        train_dataset=data,
        data_collator=collator,
        processing_class=loaded.tokenizer,
    )


def forked(work: Any) -> int:
    """Do something in a child and return the number that it found.

    Raises:
        RuntimeError: The child failed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, json.dumps(work()).encode())
            code = 0
        except BaseException as error:  # noqa: BLE001 - said, and ended by the exit code
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("the child failed")
    return int(json.loads(text))


def save_models(cell: Cell, folder: Path) -> int:
    """Write the models of a cell."""
    from distill_adapters import new_model, save_model
    from tiny_models import tokenizer

    task: Any = TASKS[cell.family]
    save_model(new_model(configuration(cell), tokenizer(), task=task, seed=7), folder / "model")
    if cell.distillation != "none":
        teacher = new_model(configuration(cell, deeper=True), tokenizer(), task=task, seed=8)
        save_model(teacher, folder / "teacher")
    return 0


def measure(cell: Cell, policy: ExecutionPolicy, runs: int) -> list[int]:
    """The peaks of several runs, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        forked(lambda: save_models(cell, Path(folder)))
        return [forked(lambda: run_cell(cell, policy, Path(folder))) for _ in range(runs)]


def main() -> None:
    """Measure every cell and print predicted / measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="cells whose names hold all of these words")
    options = parser.parse_args()
    import bitsandbytes
    import datasets
    import peft
    import torch
    import transformers
    from transformers import Seq2SeqTrainer, Trainer

    from distill_adapters import FineTuner, SafeTrainer
    from distill_adapters.arguments import training_arguments
    from distill_hwdetect import detect
    from distill_kd import DistillationTrainer

    # Imported here, so that the children share it and its memory does not count.
    del FineTuner, SafeTrainer, training_arguments, DistillationTrainer, Seq2SeqTrainer, Trainer
    profile = detect()
    print(f"# python benchmarks/memory.py --runs {options.runs} --only {options.only!r}")
    print(
        f"# {profile.cpu.name}, {' '.join(profile.cpu.flags)}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, "
        f"bitsandbytes {bitsandbytes.__version__}, datasets {datasets.__version__}, one thread"
    )
    held = []
    for group, cells in (("fitted on", FITTED), ("held out", HELD_OUT)):
        print(f"\n{group:40} {'measured MiB':>12} {'spread':>7} {'predicted':>9} {'ratio':>6}   parts")
        for cell in cells:
            if not all(word in str(cell) for word in options.only.split()):
                continue
            policy = policy_of(cell, profile)
            estimate = predicted(cell, policy)
            started = time.perf_counter()
            peaks = measure(cell, policy, options.runs)
            median = statistics.median(peaks)
            ratio = estimate.total_bytes / median
            parts = {
                name.removesuffix("_bytes"): value // MIB
                for name, value in estimate.to_dict().items()
                if name.endswith("_bytes") and isinstance(value, int) and value and name != "total_bytes"
            }
            spread = (max(peaks) - min(peaks)) / median
            print(
                f"{cell!s:40} {median / MIB:12.0f} {spread:7.1%} {estimate.total_bytes / MIB:9.0f} "
                f"{ratio:6.2f}   {parts} {time.perf_counter() - started:.0f} s",
                flush=True,
            )
            if group == "held out":
                held.append(ratio)
    if held:
        near = sum(abs(ratio - 1) <= 0.12 for ratio in held)
        print(f"\nwithin 12 %: {near} of {len(held)}; lowest {min(held):.2f}, highest {max(held):.2f}")


if __name__ == "__main__":
    main()
