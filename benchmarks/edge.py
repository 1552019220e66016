"""How much faster than PyTorch's ``generate`` does an export run, and how far from the memory limit?

Greedy generation of one text at a time; PyTorch and the runtime take turns in one process, on one thread and
on all. The limit is the time to read the weights once, at the bandwidth measured in the same run.

    python benchmarks/edge.py [MODEL TEXTS.txt] ...

Each MODEL is a saved folder and TEXTS.txt holds a held-out text a line; without any, the phoneme teacher
that ships with the trainer (a Marian), and a T5 that is trained on the same task first. A causal MODEL is
first trained for ``--move`` steps on half of its texts: weights that come from a 4-bit file would otherwise
be friendlier to int8 than any others.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import ctranslate2  # before torch, to have threads of its own, as where there is no torch: shared ones wait
import numpy as np
import torch
import transformers

from distill_deploy import TextGenerator, export, load_runtime, save

if TYPE_CHECKING:
    from collections.abc import Sequence

NEW_TOKENS = 32
ROUNDS = 5
PHONEMES = (
    Path(__file__).parents[1] / "apps" / "trainer" / "src" / "distill_app_trainer" / "examples" / "phonemes"
)


def main() -> None:
    """Print a line for each model, precision and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", help="MODEL TEXTS.txt pairs")
    parser.add_argument("--move", type=int, default=8, help="training steps of a causal model")
    parser.add_argument("--steps", type=int, default=600, help="training steps of the T5")
    arguments = parser.parse_args()
    cast("Any", transformers.utils.logging).disable_progress_bar()
    packages = ("torch", "transformers", ctranslate2.__name__, "distill-deploy")
    print(f"{_cpu()}, {os.cpu_count()} cores; {', '.join(f'{name} {version(name)}' for name in packages)}")
    print(
        f"{ROUNDS} rounds in turn, median (lowest to highest), up to {NEW_TOKENS} new tokens, batch 1, greedy"
    )
    with tempfile.TemporaryDirectory() as scratch:
        named = arguments.models
        cases = list(zip(named[::2], named[1::2], strict=True)) or _phonemes(Path(scratch), arguments.steps)
        for number, (folder, texts) in enumerate(cases):
            _compare(Path(folder), _lines(Path(texts)), Path(scratch, str(number)), arguments.move)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    features = next((line for line in lines if line.startswith("flags")), "").split()
    best = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in features]
    return f"{name or platform.processor()} ({', '.join(best)})"


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _phonemes(scratch: Path, steps: int) -> list[tuple[str, str]]:
    words = scratch / "words.txt"
    words.write_text("\n".join(row["source"] for row in _rows("test")[:400]), encoding="utf-8")
    return [(str(PHONEMES / "teacher"), str(words)), (str(_train_t5(scratch / "t5", steps)), str(words))]


def _rows(name: str) -> list[dict[str, str]]:
    lines = gzip.decompress((PHONEMES / f"{name}.jsonl.gz").read_bytes()).decode().splitlines()
    return [json.loads(line) for line in lines]


def _train_t5(out: Path, steps: int) -> Path:
    """A T5 that learns to spell phonemes; the validation loss is printed."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(PHONEMES / "tokenizer")
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    torch.manual_seed(0)
    model = cast("Any", transformers.T5ForConditionalGeneration)(
        transformers.T5Config(
            vocab_size=len(tokenizer), d_model=192, d_kv=32, d_ff=512, num_layers=3, num_heads=6,
            dropout_rate=0.0, feed_forward_proj="gated-gelu", pad_token_id=pad, eos_token_id=eos,
            decoder_start_token_id=pad,
        )
    )  # fmt: skip

    def loss(rows: Sequence[dict[str, str]]) -> Any:
        inputs = tokenizer([row["source"] for row in rows], padding=True, return_tensors="pt")
        wanted = tokenizer(text_target=[row["target"] for row in rows], padding=True, return_tensors="pt")
        labels = wanted.input_ids.masked_fill(wanted.attention_mask == 0, -100)
        fed = {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask}
        return model(**fed, labels=labels).loss

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    draw, rows = random.Random(0), _rows("dictionary")  # noqa: S311  # no secret
    for _ in range(steps):
        loss(draw.sample(rows, 128)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        held = float(loss(_rows("validation")[:500]))
    print(f"T5 trained for {steps} steps: {held:.3f} nats a token of the validation rows")
    return save(model.eval(), tokenizer, out)


def _compare(folder: Path, texts: list[str], scratch: Path, move: int) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    causal = not config.is_encoder_decoder
    auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSeq2SeqLM
    model = cast("Any", auto.from_pretrained(folder, dtype=torch.float32))
    torch.set_num_threads(os.cpu_count() or 1)
    if causal and move:
        _move(model, tokenizer, texts[len(texts) // 2 :], move)
        folder = save(model, tokenizer, scratch / "moved")
    model.eval()
    held = texts[: len(texts) // 2]
    print(f"\n{config.model_type}, {model.num_parameters() / 1e6:.2f} M parameters")
    precisions: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")
    for precision in precisions:
        out = scratch / precision
        done = export(
            folder,
            out,
            precision=precision,
            held_out=held[:128],
            max_new_tokens=NEW_TOKENS,
            allow_failed=True,
        )
        found = done.certificate
        print(
            f"{precision}: {found['token_agreement']:.2%} of {found['positions']} tokens agree, "
            f"computes in {found['compute']} {found['token_agreement_by_compute']}, "
            f"size {found['size_ratio']:.3f} of {cast('int', found['source_bytes']) / 1e6:.1f} MB"
            + (f", perplexity {_perplexity(model, tokenizer, out, held[:8])}" if causal else "")
        )
        for threads in sorted({1, os.cpu_count() or 1}):
            torch.set_num_threads(threads)
            _time(model, out, held[:8], threads, cast("int", found["weights_bytes"]))


def _move(model: Any, tokenizer: Any, texts: Sequence[str], steps: int) -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    for step in range(steps):
        ids = torch.tensor([tokenizer(" ".join(texts[step::steps])).input_ids[:256]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _perplexity(model: Any, tokenizer: Any, out: Path, texts: Sequence[str]) -> str:
    runtime = load_runtime(out)
    assert isinstance(runtime, TextGenerator)
    sums, count = [0.0, 0.0], 0
    for text in texts:
        ids = tokenizer(text).input_ids
        with torch.inference_mode():
            ours = model(input_ids=torch.tensor([ids[:-1]])).logits[0].double()
        theirs = torch.from_numpy(runtime.forced_logits(ids[:1], ids[1:])).double()
        for number, scores in enumerate((ours, theirs[:, : ours.shape[1]])):
            sums[number] += float(
                torch.nn.functional.cross_entropy(scores, torch.tensor(ids[1:]), reduction="sum")
            )
        count += len(ids) - 1
    return " -> ".join(f"{np.exp(total / count):.3f}" for total in sums)


def _time(model: Any, out: Path, texts: Sequence[str], threads: int, weights: int) -> None:
    began = time.perf_counter()
    runtime = load_runtime(out, threads=threads)
    assert isinstance(runtime, TextGenerator)
    next(runtime.stream(texts[0], max_new_tokens=NEW_TOKENS), None)
    first = time.perf_counter() - began
    ours, theirs = [], []
    for _ in range(ROUNDS):
        spent, tokens, made = [0.0, 0.0], 0, 0
        for text in texts:
            ids = runtime.encode(text)
            middle = time.perf_counter()
            row = _torch(model, ids)
            after = time.perf_counter()
            (found,) = runtime.generate_ids([ids], max_new_tokens=NEW_TOKENS)
            spent[0] += after - middle
            spent[1] += time.perf_counter() - after
            tokens += row
            made += len(found) + 1
        theirs.append(1000 * spent[0] / tokens)
        ours.append(1000 * spent[1] / made)
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    limit = 1000 * weights / _bandwidth(threads)
    print(
        f"  {threads} thread{'s' * (threads > 1)}: PyTorch {statistics.median(theirs):.2f} ms a token, "
        f"export {statistics.median(ours):.2f}, {statistics.median(ratios):.2f} x "
        f"({min(ratios):.2f} to {max(ratios):.2f}); limit {limit:.3f} ms, "
        f"{limit / statistics.median(ours):.0%} of it reached; folder to first piece {first:.2f} s"
    )


def _torch(model: Any, ids: list[int]) -> int:
    """Generate as ``generate`` does, and return how many tokens came."""
    row = torch.tensor([ids])
    pad = model.config.pad_token_id
    with torch.inference_mode():
        made = model.generate(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            num_beams=1,
            suppress_tokens=[pad] if model.config.is_encoder_decoder else None,
        )
    return int(made.shape[1]) - (1 if model.config.is_encoder_decoder else len(ids))


def _bandwidth(threads: int) -> float:
    """Bytes a second read by so many threads, the best of five."""
    parts = [np.ones(32 << 20, np.float32) for _ in range(threads)]
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            began = time.perf_counter()
            list(pool.map(np.max, parts))
            best = min(best, time.perf_counter() - began)
    return sum(part.nbytes for part in parts) / best


if __name__ == "__main__":
    main()
