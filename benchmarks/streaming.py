"""Does the memory that preparing takes grow with the data?

Writes JSONL of several sizes and prepares each in a fresh process: rows are checked, parted by hash,
tokenized and written. What is compared is the highest resident memory that the system saw of each process,
above that of one which prepares a single megabyte. Then a chat template, which is Python, with one worker and
two: the same rows, and the seconds.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEGABYTE = 1 << 20
CHATML = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|endoftext|>\n{% endfor %}"


def write_pairs(path: Path, size: int) -> None:
    """Rows of words until the file has the size."""
    draw = random.Random(0)  # noqa: S311  # no secret
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(4, 20))) for _ in range(5000)]
    with path.open("w", encoding="utf-8") as stream:
        written = 0
        while written < size:
            source, target = (" ".join(draw.choices(words, k=draw.randint(20, 200))) for _ in range(2))
            written += stream.write(json.dumps({"source": source, "target": target}) + "\n")


def write_chats(path: Path, count: int) -> None:
    """Conversations of eight short turns."""
    draw = random.Random(0)  # noqa: S311  # no secret
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))) for _ in range(500)]
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            turns = [{"role": role, "content": " ".join(draw.choices(words, k=20))}
                     for role in ("user", "assistant") * 4]  # fmt: skip
            stream.write(json.dumps({"messages": turns}) + "\n")


def prepare_here(path: Path, tokenizer: Path, out: Path, workers: int) -> None:
    """What the fresh process does: prepare, and print what it took."""
    import resource

    from transformers import PreTrainedTokenizerFast

    from distill_datakit import fingerprint, tokenize_to_disk

    made = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    start = time.perf_counter()
    if "chats" in path.name:
        done = tokenize_to_disk(path, made, "causal", out, workers=workers, chat_template=CHATML)
    else:
        done = tokenize_to_disk(path, made, "seq2seq", out, max_source_length=512, max_target_length=512)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = sum(len(part) for part in done.data.values())
    print(json.dumps({"rows": rows, "seconds": seconds, "peak": peak, "fingerprint": fingerprint(done)}))


def run(*arguments: object) -> dict[str, float]:
    """Prepare in a fresh process."""
    command = [sys.executable, __file__, "--prepare", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 250, 1024], help="of the files, in MiB")
    parser.add_argument("--chats", type=int, default=4_000, help="conversations")
    parser.add_argument("--prepare", nargs=4, metavar=("FILE", "TOKENIZER", "OUT", "WORKERS"))
    given = parser.parse_args()
    if given.prepare:
        file, tokenizer, out, workers = given.prepare
        return prepare_here(Path(file), Path(tokenizer), Path(out), int(workers))

    from distill_datakit import train_tokenizer

    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    print(f"{cpu}, {len(os.sched_getaffinity(0))} cores", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "1.jsonl", MEGABYTE)
        lines = [json.loads(line) for line in (folder / "1.jsonl").read_text().splitlines()]
        tokenizer = folder / "tokenizer"
        train_tokenizer([row["source"] for row in lines], kind="bpe", size=16_000).save_pretrained(tokenizer)
        base = run(folder / "1.jsonl", tokenizer, folder / "out", 1)["peak"]
        print(f"{'file':>9} {'rows':>9} {'seconds':>8} {'peak MiB':>9} {'above 1 MiB':>12}")
        print(f"{1:>5} MiB {len(lines):9,} {'':8} {base:9.0f} {0:12.0f}", flush=True)
        peaks = []
        for size in given.sizes:
            path = folder / f"{size}.jsonl"
            write_pairs(path, size * MEGABYTE)
            took = run(path, tokenizer, folder / "out", 1)
            peaks.append(took["peak"])
            print(f"{size:5} MiB {took['rows']:9,.0f} {took['seconds']:8.1f} {took['peak']:9.0f} "
                  f"{took['peak'] - base:12.0f}", flush=True)  # fmt: skip
            path.unlink()
        print(f"the largest takes {peaks[-1] / peaks[0]:.3f} times the memory of the first")
        write_chats(folder / "chats.jsonl", given.chats)
        found = [run(folder / "chats.jsonl", tokenizer, folder / f"out{n}", n) for n in (1, 2)]
        assert found[0]["fingerprint"] == found[1]["fingerprint"]
        for workers, took in zip((1, 2), found, strict=True):
            print(f"{given.chats:,} chats, {workers} worker(s): {took['seconds']:.1f} s, the same rows")
    return None


if __name__ == "__main__":
    main()
