"""How much faster is a training step on packed rows than on rows padded to the longest of their batch?

Long-tailed text: the paragraphs of the docstrings of Python's standard library. Every method reads the same
paragraphs, must give the same summed loss, and is timed in turn, forward and backward, in one process. TRL is
compared with where it is installed: ``pip install trl``, into an environment of its own.
"""

import argparse
import ast
import importlib.util
import os
import platform
import random
import statistics
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from distill_datakit import LengthSampler, collator, load_data, pack, tokenize, train_tokenizer

LONGEST, ROWS, PACKS = 512, 16, 2  # tokens a row; rows and packed rows a batch (about as many real tokens)
Batches = Callable[[], Iterator[dict[str, torch.Tensor]]]


def paragraphs(count: int) -> list[str]:
    """Different paragraphs of docstrings, in random order."""
    found: set[str] = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                found.update(part.strip() for part in text.split("\n\n") if part.strip())
    texts = sorted(found)
    random.Random(0).shuffle(texts)  # noqa: S311  # no secret
    return texts[:count]


def chunks(
    rows: Dataset, size: int, order: Sequence[int] | None = None
) -> Iterator[list[dict[str, list[int]]]]:
    """Rows in batches."""
    order = range(len(rows)) if order is None else order
    for start in range(0, len(rows), size):
        yield [rows[int(index)] for index in order[start : start + size]]


def without_row_id(batches: Iterator[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    """What the model takes."""
    for batch in batches:
        yield {name: tensor for name, tensor in batch.items() if name != "row_id"}


def methods(rows: Dataset, tokenizer: PreTrainedTokenizerFast) -> dict[str, Batches]:
    """Ways to batch the same rows, ours and the peers'."""
    plain = collator(tokenizer, "causal")
    by_position = collator(tokenizer, "causal", packed_attention="position_ids")
    packed = pack(rows, length=LONGEST)
    lengths = [len(ids) for ids in rows["input_ids"]]
    theirs = rows.select_columns(["input_ids"])
    language_model = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
    flat = transformers.DataCollatorWithFlattening(return_position_ids=True)
    found: dict[str, Batches] = {
        "pad to the longest (transformers' collator)": lambda: map(language_model, chunks(theirs, ROWS)),
        "pad to the longest (ours)": lambda: without_row_id(map(plain, chunks(rows, ROWS))),
        "batches of like length (ours)": lambda: without_row_id(
            map(plain, chunks(rows, ROWS, list(LengthSampler(lengths, ROWS))))
        ),
        "flattened (transformers' DataCollatorWithFlattening)": lambda: (
            {name: batch[name] for name in ("input_ids", "labels", "position_ids")}
            for batch in map(flat, chunks(rows.select_columns(["input_ids", "labels"]), ROWS))
        ),
        "packed, block mask (ours)": lambda: without_row_id(map(plain, chunks(packed, PACKS))),
        "packed, position ids (ours)": lambda: without_row_id(map(by_position, chunks(packed, PACKS))),
    }
    filled = sum(lengths) / (len(packed) * LONGEST)
    print(f"ours: {len(packed)} packed rows, padding {1 - filled:.2%}")
    if importlib.util.find_spec("trl"):
        from trl.data_utils import pack_dataset
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        their_packs = pack_dataset(theirs, seq_length=LONGEST, strategy="bfd")
        print(f"TRL's: {len(their_packs)} packed rows")
        pad = tokenizer.pad_token_id
        padded = DataCollatorForLanguageModeling(pad)
        free = DataCollatorForLanguageModeling(pad, padding_free=True)
        found["pad to the longest (TRL's collator)"] = lambda: map(padded, chunks(theirs, ROWS))
        found["packed, padding-free (TRL's)"] = lambda: map(free, chunks(their_packs, PACKS))
    return found


def epoch(model: LlamaForCausalLM, batches: Iterator[dict[str, torch.Tensor]]) -> tuple[float, int, float]:
    """Forward and backward on every batch: summed loss, positions that were computed, seconds."""
    total, positions, start = 0.0, 0, time.perf_counter()
    for batch in batches:
        labels = batch.pop("labels")
        positions += batch["input_ids"].numel()
        logits = model(**batch, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
        )
        loss.backward()
        total += loss.item()
        model.zero_grad()
    return total, positions, time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=4000, help="paragraphs whose padding is counted")
    parser.add_argument("--timed", type=int, default=400, help="of these are trained on")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    peers = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl")
             if importlib.util.find_spec(name)}  # fmt: skip
    print(f"{cpu}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads; {peers}")
    texts = paragraphs(given.texts)
    tokenizer = train_tokenizer(texts, kind="bpe", size=8000)
    data = load_data([{"text": text} for text in texts])
    rows = tokenize(data, tokenizer, "causal", max_source_length=LONGEST).data
    lengths = sorted(len(ids) for ids in rows["input_ids"])
    print(
        f"{len(rows)} paragraphs: median {statistics.median(lengths):.0f} tokens, mean "
        f"{statistics.mean(lengths):.1f}, longest {lengths[-1]}"
    )
    packed = pack(rows, length=LONGEST)
    print(f"all of them packed to {LONGEST}: padding {1 - sum(lengths) / (len(packed) * LONGEST):.2%}")
    timed = rows.select(range(min(given.timed, len(rows))))
    ways = methods(timed, tokenizer)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
                    num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=8192))  # fmt: skip
    real = sum(len(ids) for ids in timed["input_ids"])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    computed: dict[str, int] = {}
    losses: dict[str, float] = {}
    for turn in range(given.repeats + 1):  # the first warms up
        for name, batches in ways.items():
            losses[name], computed[name], took = epoch(model, batches())
            if turn:
                seconds[name].append(took)
    first = next(iter(ways))
    for name, loss in losses.items():
        assert abs(loss / losses[first] - 1) < 1e-5, f"{name}: another loss, {loss}, {losses[first]}"
    print(f"{real} real tokens, {given.repeats} repeats in turn; the same summed loss by every method (1e-5)")
    base = statistics.median(seconds[first])
    print(f"{'method':54} {'padding':>8} {'tokens/s':>9} {'spread':>15} {'speed':>6}")
    for name, took in seconds.items():
        speeds = sorted(real / one for one in took)
        spread = f"{speeds[0]:.0f}-{speeds[-1]:.0f}"
        padding, ratio = 1 - real / computed[name], base / statistics.median(took)
        print(f"{name:54} {padding:8.1%} {statistics.median(speeds):9.0f} {spread:>15} {ratio:5.2f}x")


if __name__ == "__main__":
    main()
