"""Make the quickstart's data from the CMU Pronouncing Dictionary.

    python apps/trainer/tools/prepare_phonemes.py CMUDICT.DICT LICENSE OUT

``CMUDICT.DICT`` is the dictionary as Carnegie Mellon publishes it (BSD-2-Clause). Words of ``a-z`` and the
apostrophe are kept, stress digits are dropped, and the words are split by the SHA-256 of their stem, so that
"walk", "walked" and "walking" always fall on the same side.
"""

import argparse
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

WORD = re.compile(r"[a-z']+")
ENDINGS = (
    "'s",
    "s'",
    "iness",
    "ness",
    "ings",
    "ing",
    "ies",
    "ied",
    "ier",
    "ers",
    "est",
    "ely",
    "ly",
    "ed",
    "er",
    "es",
    "s",
    "e",
    "y",
    "'",
)
SHORTEST_STEM = 3
# Shares of the 10,000 buckets that a stem's hash falls into: about 2 % test and 1 % validation.
TEST_BUCKETS, VALIDATION_BUCKETS, BUCKETS = 195, 295, 10_000
LABELLED, UNLABELLED, MORE = 1_000, 20_000, 4_000


def stem(word: str) -> str:
    """Cut common endings, longest first, as long as three letters stay: crude, and on the safe side."""
    word = word.removeprefix("'")
    shorter = True
    while shorter:
        shorter = False
        for ending in ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
                word, shorter = word[: -len(ending)], True
                break
    if len(word) > SHORTEST_STEM and word[-1] == word[-2]:  # "running" -> "run"
        word = word[:-1]
    return word


def digest(text: str) -> int:
    """Return a number that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def part_of(word: str) -> str:
    """Name the split, ``train``, ``validation`` or ``test``, that the word's stem falls into."""
    bucket = digest(stem(word)) % BUCKETS
    if bucket < TEST_BUCKETS:
        return "test"
    return "validation" if bucket < VALIDATION_BUCKETS else "train"


def read(dictionary: Path) -> dict[str, list[str]]:
    """Map each word to its pronunciations without stress, in the dictionary's order and without repeats."""
    words: dict[str, list[str]] = {}
    for line in dictionary.read_text(encoding="utf-8").splitlines():
        entry, _, phonemes = line.partition("#")[0].strip().partition(" ")
        word = re.sub(r"\(\d+\)$", "", entry)
        pronunciation = re.sub(r"\d", "", phonemes).strip()
        if WORD.fullmatch(word) and pronunciation not in words.setdefault(word, []):
            words[word].append(pronunciation)
    return {word: spoken for word, spoken in words.items() if spoken}


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write gzipped JSONL whose bytes depend on the rows alone (no time stamp); the number of rows."""
    lines = [json.dumps(row, separators=(",", ":")) for row in rows]
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
        packed.write(("\n".join(lines) + "\n").encode())
    return len(lines)


def main() -> None:
    """Write the six files and the notice of the dictionary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("licence", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    words = read(options.dictionary)
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for word in sorted(words):
        parts[part_of(word)].append(word)
    drawn = sorted(parts["train"], key=lambda word: digest("draw:" + word))
    labelled, unlabelled = drawn[:LABELLED], drawn[LABELLED : LABELLED + UNLABELLED]
    more = drawn[LABELLED + UNLABELLED : LABELLED + UNLABELLED + MORE]

    def scored(chosen: Iterable[str]) -> list[dict[str, object]]:
        return [{"source": word, "target": words[word][0], "references": words[word]} for word in chosen]

    options.out.mkdir(parents=True, exist_ok=True)
    everything = ({"source": word, "target": spoken} for word in parts["train"] for spoken in words[word])
    counts = {
        "dictionary": write(options.out / "dictionary.jsonl.gz", everything),
        "labelled": write(options.out / "labelled.jsonl.gz", scored(labelled)),
        "labelled_more": write(options.out / "labelled_more.jsonl.gz", scored(more)),
        "unlabelled": write(options.out / "spellings.jsonl.gz", ({"source": word} for word in unlabelled)),
        "validation": write(options.out / "validation.jsonl.gz", scored(parts["validation"])),
        "test": write(options.out / "test.jsonl.gz", scored(parts["test"])),
    }
    shutil.copyfile(options.licence, options.out / "LICENSE.cmudict")
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
