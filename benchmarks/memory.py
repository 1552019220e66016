"""How far is the memory estimate of distill-hwdetect from the peak of real training runs on a CPU?

Each cell is a training run in a process of its own, as the trainer app runs its stages: a model is made from
a configuration and saved, loaded under the policy of choose_policy(), checked and trained for two steps by
this project's trainers. What is counted is the peak of all resident memory (VmHWM) from when the models are
loaded: what the libraries take once imported, which is printed in the head, and what the run adds to that.
The ratio that counts is of the latter: the estimate without its constant for imports, against the peak
without the imports. The other, of the whole process, is what a machine must have. The plan sees the
configuration alone. Six cells fit the constants and are printed apart; the others count.

    python benchmarks/memory.py [--runs 3] [--only WORDS] [--minutes M] [--keep FILE]
"""

from __future__ import annotations

import argparse
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
    from collections.abc import Callable

    from distill_hwdetect import ExecutionPolicy, HardwareProfile, MemoryEstimate, ModelFacts

MIB = 2**20
STEPS = 2  # the second has the optimizer's states beside the activations
TASKS = {"llama": "causal", "t5": "seq2seq", "marian": "seq2seq", "bert": "masked"}
# Width, inner width, blocks, heads, vocabulary.
SIZES = {
    "s": (256, 704, 6, 4, 8192),
    "v": (384, 1024, 4, 6, 65536),
    "m": (512, 1408, 8, 8, 16384),
    "l": (768, 2048, 8, 12, 32768),
}


@dataclass(frozen=True)
class Cell:
    """One training run: model, what is trained, how, and on how much text."""

    family: str
    size: str
    adapter: str
    batch: int
    source: int
    target: int = 64
    checkpointing: bool = False
    distillation: str = "none"
    accumulation: int = 1

    def __str__(self) -> str:
        """Short enough for a table."""
        kind = self.adapter if self.distillation == "none" else f"KD {self.distillation} {self.adapter}"
        more = (" ckpt" if self.checkpointing else "") + (f" x{self.accumulation}" * (self.accumulation > 1))
        length = f"{self.source}+{self.target}" if TASKS[self.family] == "seq2seq" else str(self.source)
        return f"{self.family}-{self.size} {kind}{more} {self.batch}x{length}"


FITTED = (
    Cell("llama", "m", "full", 2, 128),
    Cell("bert", "s", "lora", 8, 128, checkpointing=True),
    Cell("t5", "m", "full", 2, 128),
    Cell("marian", "s", "lora", 8, 128, 128),
    Cell("llama", "m", "qlora", 2, 128),
    Cell("bert", "m", "qlora", 1, 192, 128, checkpointing=True),
)


def _held_out() -> tuple[Cell, ...]:
    """Three families: whole, adapted, quantized, and distilled in three ways, with and without ckpt."""
    cells = []
    for ckpt in (False, True):
        for family, other in (("llama", "llama"), ("t5", "marian"), ("bert", "bert")):
            cells += [
                Cell(family, "m" if ckpt else "l", "full", 4 if ckpt else 1, 128, 96, ckpt),
                Cell(other, "s", "lora", 8, 256, 192, ckpt),
                Cell(family, "m" if ckpt else "l", "qlora", 1, 192, 128, ckpt),
                Cell(family, "v", "full", 2, 128, 128, ckpt, "full"),
                Cell(other, "m", "full", 2, 160, 128, ckpt, "chunked"),
                Cell(family, "v", "full", 2, 160, 128, ckpt, "cached"),
            ]
    return (
        *(cell for cell in cells if cell not in FITTED),
        Cell("bert", "m", "full", 2, 128, distillation="chunked"),
        Cell("llama", "m", "full", 2, 96, accumulation=2),
        Cell("llama", "v", "lora", 2, 192),
        Cell("t5", "v", "lora", 4, 96, 96, checkpointing=True),
        Cell("bert", "v", "lora", 4, 96, distillation="chunked"),
    )


HELD_OUT = _held_out()


def configuration(cell: Cell, *, deeper: bool = False) -> dict[str, object]:
    """The model of a cell; its teacher has half as many blocks again."""
    width, inner, depth, heads, vocabulary = SIZES[cell.size]
    depth += depth // 2 if deeper else 0
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
    # Of a frozen table that is not also the head only the rows of these few texts would be read.
    tied = {"tie_word_embeddings": cell.adapter != "full"} if cell.family == "llama" else {}
    return {"model_type": cell.family, "vocab_size": vocabulary, **shape, **tied}


def facts(cell: Cell, *, deeper: bool = False) -> ModelFacts:
    """What the configuration says of its size."""
    from distill_hwdetect import read_model_facts

    return read_model_facts(configuration(cell, deeper=deeper))


def policy_of(cell: Cell, profile: HardwareProfile) -> ExecutionPolicy:
    """The plan of a cell, which prescribes the batch and what is recomputed."""
    from distill_hwdetect import Requirements, choose_policy

    words: Any = (TASKS[cell.family], cell.adapter, cell.distillation)
    task, adapter, how = words
    return choose_policy(
        profile,
        Requirements(
            task=task,
            model=facts(cell),
            teacher=None if how == "none" else facts(cell, deeper=True),
            distillation="chunked" if how == "none" else how,
            effective_batch=cell.batch * cell.accumulation,
            source_length=cell.source,
            target_length=cell.target,
            adapter=adapter,
            overrides={
                "device": "cpu",
                "micro_batch": cell.batch,
                "gradient_checkpointing": cell.checkpointing,
            },
        ),
    )


def rows(cell: Cell) -> list[dict[str, object]]:
    """Texts without padding, of tokens from all over the vocabulary."""
    made: list[dict[str, object]] = []
    size = SIZES[cell.size][-1]
    for number in range(cell.batch * cell.accumulation * STEPS):
        ids = [5 + (number * 7919 + place * 104729) % (size - 5) for place in range(cell.source)]
        row: dict[str, object] = {"input_ids": ids, "attention_mask": [1] * len(ids), "row_id": number}
        if TASKS[cell.family] == "seq2seq":
            row["labels"] = (ids * 2)[: cell.target]
        elif TASKS[cell.family] == "causal":
            row["labels"] = list(ids)
        made.append(row)
    return made


def resident() -> dict[str, int]:
    """Resident memory of this process now and at its peak, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    found = {name: line.split() for line in lines for name in ("VmRSS", "VmHWM") if line.startswith(name)}
    return {name: int(words[1]) * 1024 for name, words in found.items()}


def run_cell(cell: Cell, policy: ExecutionPolicy, folder: Path) -> int:
    """Load and train; return the peak of resident memory above that of the start, in bytes."""
    before = resident()["VmRSS"]
    trainer = trainer_of(cell, policy, folder)
    # Files that are read in passing, to be quantized, are mapped: the system can have that memory back.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    trainer.train()
    return resident()["VmHWM"] - before


def trainer_of(cell: Cell, policy: ExecutionPolicy, folder: Path) -> Any:
    """The trainer of a cell, as the app makes it."""
    from datasets import Dataset

    from distill_adapters import (
        AdapterConfig,
        FineTuner,
        TrainConfig,
        attach,
        load_model,
        training_arguments,
    )
    from distill_datakit import collator
    from distill_kd import CachedTeacher, DistillationTrainer, LiveTeacher, Objective

    task: Any = TASKS[cell.family]
    loaded = load_model(folder / "model", policy, task)
    adapter: Any = cell.adapter
    if adapter != "full":
        loaded = attach(loaded, AdapterConfig(kind=adapter))
    settings = TrainConfig(
        steps=STEPS, batch_size=cell.batch * cell.accumulation, learning_rate=1e-4, warmup=0.0
    )
    data = Dataset.from_list(rows(cell))
    collate = collator(loaded.tokenizer, task, model=loaded.model if task == "seq2seq" else None)
    tuner = FineTuner(
        loaded,
        config=settings,
        policy=policy,
        output_dir=folder / "out",
        seed=1,
        data_collator=collate,
    )
    if cell.distillation == "none":
        return tuner._trainer({"train": data})
    teacher: Any
    if cell.distillation == "cached":
        teacher = CachedTeacher(folder / "cache")
    else:
        kept = policy.teacher or policy
        teacher = LiveTeacher(load_model(folder / "teacher", kept, task, training=False).model)
    trainer = DistillationTrainer(
        loaded.model,
        teacher=teacher,
        objective=Objective(task),
        args=training_arguments(settings, policy, folder / "out", task=task, seed=1),
        train_dataset=data,
        data_collator=collate,
        processing_class=loaded.tokenizer,
    )
    if cell.distillation == "full":  # as for a head that cannot be applied separately
        trainer._chunks, teacher._asked = False, True
    return trainer


def save_models(cell: Cell, folder: Path) -> int:
    """Write the models of a cell, and what the teacher says where that is read from disk."""
    from datasets import Dataset

    from distill_adapters import new_model, save_model
    from distill_datakit import collator
    from distill_kd import LiveTeacher, write_cache
    from tiny_models import tokenizer

    task: Any = TASKS[cell.family]
    model = new_model(configuration(cell), tokenizer(), task=task, seed=7)
    save_model(model, folder / "model")
    if cell.distillation == "none":
        return 0
    teacher = new_model(configuration(cell, deeper=True), tokenizer(), task=task, seed=8)
    if cell.distillation != "cached":
        save_model(teacher, folder / "teacher")
        return 0
    collate = collator(model.tokenizer, task, model=model.model if task == "seq2seq" else None)
    data = Dataset.from_list(rows(cell))
    write_cache(LiveTeacher(teacher.model), data, collate, folder / "cache", task=task)
    return 0


def forked(work: Callable[[], int]) -> int:
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


def measure(cell: Cell, policy: ExecutionPolicy) -> int:
    """The peak of a run, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        forked(lambda: save_models(cell, Path(folder)))
        return forked(lambda: run_cell(cell, policy, Path(folder)))


def import_all() -> str:
    """Import what a run imports, so that the children share it; return the versions."""
    import bitsandbytes
    import datasets
    import peft
    import torch
    import transformers
    from transformers import Seq2SeqTrainer, Trainer

    import distill_adapters
    import distill_datakit
    import distill_kd

    del Seq2SeqTrainer, Trainer
    for package in (distill_adapters, distill_datakit, distill_kd):
        for name in package.__all__:
            getattr(package, name)
    named = (torch, transformers, peft, bitsandbytes, datasets)
    return ", ".join(f"{one.__name__} {one.__version__}" for one in named)


def measured(options: argparse.Namespace, policies: dict[Cell, ExecutionPolicy]) -> dict[str, list[int]]:
    """Peaks by cell: those kept in a file, and more until there are enough or the time is over."""
    kept: dict[str, list[int]] = {}
    if options.keep and options.keep.is_file():
        kept = json.loads(options.keep.read_text(encoding="utf-8"))
    began = time.monotonic()
    for run in range(options.runs):
        for cell, policy in policies.items():
            found = kept.setdefault(str(cell), [])
            if len(found) > run or time.monotonic() - began > 60 * options.minutes:
                continue
            found.append(measure(cell, policy))
            if options.keep:
                options.keep.write_text(json.dumps(kept), encoding="utf-8")
    return kept


def line(name: str, peaks: list[int], imports: int, estimate: MemoryEstimate) -> tuple[float, str]:
    """The ratio of a cell, and its line in the table."""
    from distill_hwdetect.memory import IMPORTS_BYTES

    median, above = statistics.median(peaks), estimate.total_bytes - IMPORTS_BYTES
    spread, ratio = (max(peaks) - min(peaks)) / median, above / median
    whole = estimate.total_bytes / (imports + median)
    parts = " ".join(
        f"{part.removesuffix('_bytes')} {value // MIB}"
        for part, value in estimate.to_dict().items()
        if part.endswith("_bytes") and part not in ("total_bytes", "budget_bytes")
        if isinstance(value, int) and value
    )
    figures = f"{median / MIB:12.0f} {spread:7.1%} {above / MIB:9.0f} {ratio:6.2f} {whole:6.2f}"
    return ratio, f"{name:38} {figures}  {len(peaks)} runs, peak in {estimate.peak}: {parts}"


def main() -> None:
    """Measure every cell and print predicted / measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="cells whose names hold all of these words")
    parser.add_argument("--minutes", type=float, default=600, help="begin no run after so many")
    parser.add_argument("--keep", type=Path, help="a file of peaks, to go on from where it was left")
    options = parser.parse_args()
    versions = import_all()
    from distill_hwdetect import detect
    from distill_hwdetect.memory import IMPORTS_BYTES

    profile, imports = detect(), resident()["VmRSS"]
    policies = {
        cell: policy_of(cell, profile)
        for cell in (*FITTED, *HELD_OUT)
        if all(word in str(cell) for word in options.only.split())
    }
    kept = measured(options, policies)
    print(f"# python benchmarks/memory.py --runs {options.runs}")
    print(
        f"# {profile.cpu.name}, {' '.join(profile.cpu.flags)}, Python {platform.python_version()}, {versions}"
    )
    print(
        f"# resident after the imports {imports / MIB:.0f} MiB; the estimate says {IMPORTS_BYTES / MIB:.0f}"
    )
    held = []
    for group, cells in (("fitted on", FITTED), ("held out", HELD_OUT)):
        names = f"{'MiB measured':>12} {'spread':>7} {'predicted':>9} {'ratio':>6} {'whole':>6}"
        print(f"\n{group:38} {names}")
        for cell in cells:
            if cell in policies and kept[str(cell)]:
                ratio, text = line(str(cell), kept[str(cell)], imports, policies[cell].memory)
                print(text, flush=True)
                held += [ratio] if group == "held out" else []
    if held:
        near = sum(abs(ratio - 1) <= 0.12 for ratio in held)
        print(f"\nwithin 12 %: {near} of {len(held)}; lowest {min(held):.2f}, highest {max(held):.2f}")


if __name__ == "__main__":
    main()
