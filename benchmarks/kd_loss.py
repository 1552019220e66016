"""What do time and memory of a distillation loss cost: naive, TRL, Liger, and chunked_divergence?

Student and teacher are hidden states and an output head each; the gradients of the student's hidden states
and head are computed. Everything runs in turn in this process, on one thread; time is CPU time, the least of
the repetitions, so that a busy machine disturbs little. "floor" is the four matrix products alone, in chunks:
student logits, teacher logits, gradient of the hidden states, gradient of the head. Peak is the high-water
mark of resident memory above what the process held before the call, and above the gradient of the head, which
nobody can avoid.

    uv venv V && uv pip install --python V/bin/python torch trl==1.16.0 peft setuptools &&
    uv pip install --python V/bin/python --no-deps liger-kernel==0.8.5 &&
    PYTHONPATH=packages/distill/src V/bin/python benchmarks/kd_loss.py

Peers that are not installed are left out.
"""

import argparse
import ctypes
import functools
import gc
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from distill_kd import HiddenTarget, OutputHead, chunked_divergence

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]  # student hidden states and head, teacher's
Loss = Callable[[Inputs], Tensor]
BETA = {"forward_kl": 0.0, "jensen_shannon": 0.5}
MIB = 2**20


def inputs(rows: int, width: int, vocab: int) -> Inputs:
    """Random hidden states, and heads whose logits have a spread of about 2."""
    draw = torch.Generator().manual_seed(0)
    hidden, theirs = (torch.randn(rows, width, generator=draw) for _ in range(2))
    heads = [torch.randn(vocab, width, generator=draw).mul_(2 / width**0.5) for _ in range(2)]
    return hidden.requires_grad_(), heads[0].requires_grad_(), theirs, heads[1]


def ours(given: Inputs, divergence: str) -> Tensor:
    """distill_kd.chunked_divergence with its default budget."""
    hidden, weight, theirs, head = given
    mask = torch.ones(1, len(hidden), dtype=torch.bool)
    target = HiddenTarget(theirs[None], OutputHead((head,)))
    return chunked_divergence(hidden[None], OutputHead((weight,)), target, mask=mask, divergence=divergence)


def naive(given: Inputs, divergence: str) -> Tensor:
    """Full logits, log-softmax, and what torch has."""
    hidden, weight, theirs, head = given
    student, teacher = functional.linear(hidden, weight), functional.linear(theirs, head)
    student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    if divergence == "forward_kl":
        return functional.kl_div(student, teacher, reduction="sum", log_target=True)
    mixture = torch.logaddexp(student, teacher) - torch.log(torch.tensor(2.0))
    parts = [
        functional.kl_div(mixture, part, reduction="sum", log_target=True) for part in (student, teacher)
    ]
    return (parts[0] + parts[1]) / 2


def trl_gkd(given: Inputs, divergence: str) -> Tensor:
    """TRL's GKDTrainer.generalized_jsd_loss."""
    from trl.experimental.gkd import GKDTrainer

    hidden, weight, theirs, head = given
    student, teacher = functional.linear(hidden, weight)[None], functional.linear(theirs, head)[None]
    loss: Tensor = GKDTrainer.generalized_jsd_loss(student, teacher, beta=BETA[divergence], reduction="sum")
    return loss


def trl_distillation(given: Inputs, divergence: str) -> Tensor:
    """The loss of TRL's DistillationTrainer."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    hidden, weight, theirs, head = given
    mask = torch.ones(1, len(hidden), dtype=torch.long)
    found = _chunked_divergence_loss(
        hidden[None], theirs[None], weight, head, mask, BETA[divergence], num_items_in_batch=1
    )
    loss: Tensor = found[0]
    return loss


def liger(given: Inputs, divergence: str, *, chunk: int) -> Tensor:
    """Liger's chunked distillation loss, eager."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    hidden, weight, theirs, head = given
    made: Any = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=BETA[divergence], compiled=False, chunk_size=chunk
    )
    labels = torch.zeros(len(hidden), dtype=torch.long)
    loss: Tensor = made(hidden, weight, theirs, head, labels)
    return loss * len(hidden)


def floor(given: Inputs, divergence: str, *, chunk: int = 512) -> Tensor:
    """The four products, of which the first takes the place of the scores' gradient."""
    del divergence
    hidden, weight, theirs, head = (each.detach() for each in given)
    scores, of_hidden = torch.empty(chunk, len(weight)), torch.empty_like(hidden)
    of_weight = torch.zeros_like(weight)
    for start in range(0, len(hidden), chunk):
        part = hidden[start : start + chunk]
        block = scores[: len(part)]
        torch.mm(theirs[start : start + chunk], head.t(), out=block)
        torch.mm(part, weight.t(), out=block)
        torch.mm(block, weight, out=of_hidden[start : start + chunk])
        of_weight.addmm_(block.t(), part)
    return torch.zeros((), requires_grad=True)


SYSTEMS: dict[str, Callable[[Inputs, str], Tensor]] = {
    "floor": floor,
    "naive": naive,
    "TRL GKD": trl_gkd,
    "TRL DistillationTrainer": trl_distillation,
    "Liger chunk 1024": functools.partial(liger, chunk=1024),
    "Liger chunk 256": functools.partial(liger, chunk=256),
    "ours": ours,
}


def resident(name: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def measured(system: str, given: Inputs, divergence: str) -> tuple[float, float, int]:
    """Loss, CPU seconds and peak bytes above the inputs of one forward and backward pass."""
    for each in given[:2]:
        each.grad = None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.process_time()
    loss = SYSTEMS[system](given, divergence)
    loss.backward()
    seconds = time.process_time() - start
    above = resident("VmHWM") - before
    if system not in ("floor", "naive"):
        assert given[0].grad is not None
    return loss.item(), seconds, above


def usable(systems: list[str]) -> list[str]:
    """Those whose package is there."""
    found = []
    for system in systems:
        package = {"TRL": "trl", "Lig": "liger-kernel"}.get(system[:3])
        try:
            importlib.metadata.version(package or "torch")
            found.append(system)
        except importlib.metadata.PackageNotFoundError:
            print(f"{system} is left out: {package} is not installed")
    return found


def table(
    divergence: str, rows: int, width: int, vocab: int, systems: list[str], repetitions: int
) -> dict[str, tuple[float, float]]:
    """Print and return CPU seconds and peak MiB above inputs and above the head's gradient."""
    given = inputs(rows, width, vocab)
    of_weight = 4 * vocab * width
    runs: dict[str, list[tuple[float, float, int]]] = {system: [] for system in systems}
    for _ in range(repetitions):
        for system in systems:
            runs[system].append(measured(system, given, divergence))
    reference = runs["naive" if "naive" in runs else "ours"][0][0]
    print(
        f"\n{divergence}: {rows:,} positions, width {width}, vocabulary {vocab:,}; {repetitions} repetitions"
    )
    print(f"{'':26}{'CPU s (spread)':>18}{'/ naive':>9}{'/ floor':>9}{'peak MiB':>10}{'/ naive':>9}")
    best = {}
    for system, found in runs.items():
        seconds = [each[1] for each in found]
        peak = statistics.median(each[2] for each in found) - of_weight
        best[system] = (min(seconds), max(peak, 0) / MIB)
        if system != "floor":
            assert abs(found[0][0] - reference) < 2e-5 * abs(reference), (system, found[0][0], reference)
    for system, (seconds, peak) in best.items():
        spread = max(each[1] for each in runs[system]) / seconds
        ratios = ""
        for other in ("naive", "floor"):
            ratios += f"{best[system][0] / best[other][0]:>9.3f}" if other in best else f"{'-':>9}"
        share = f"{peak / best['naive'][1]:>9.3f}" if "naive" in best and system != "floor" else f"{'-':>9}"
        print(f"{system:26}{seconds:10.2f} ({spread:.2f}){ratios}{peak:>10.0f}{share}", flush=True)
    return best


def machine() -> str:
    """Processor, load and versions."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    versions = []
    for package in ("torch", "trl", "liger-kernel"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    name = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{name}, one of {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}; {', '.join(versions)}"


def main() -> int:
    """Run all tables, and say which goals were met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a hundredth of the size, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cut = 16 if options.small else 1
    print(machine())
    every = usable(list(SYSTEMS))
    for system in every:  # what is imported and compiled on first use is not measured
        measured(system, inputs(8, 8, 32), "forward_kl")
    light = [system for system in every if system not in ("Liger chunk 256", "floor")]
    vocab, large = 49_152 // cut, 128_256 // cut
    kl = table("forward_kl", 1024, 576, vocab, every, options.repetitions)
    jsd = table("jensen_shannon", 1024, 576, vocab, every, options.repetitions)
    long = table("forward_kl", 4096, 64, vocab, light, 1)
    longer = table("forward_kl", 16_384, 64, vocab, ["ours"], 1)
    table("forward_kl", 512, 64, large, light, 1)
    grown = longer["ours"][1] - long["ours"][1]
    hidden = (16_384 - 4096) * 64 * 4 / MIB
    goals = [
        ("forward KL, time / naive", kl["ours"][0] / kl["naive"][0], 0.90),
        ("forward KL, time / floor", kl["ours"][0] / kl["floor"][0], 1.08),
        ("JSD, time / floor", jsd["ours"][0] / jsd["floor"][0], 1.25),
        ("4,096 positions, peak / naive", long["ours"][1] / long["naive"][1], 0.05),
        ("4 times the positions: growth / their hidden states", grown / hidden, 3.0),
    ]
    print()
    for name, reached, goal in goals:
        print(f"{name:52} {reached:6.3f}  at most {goal:4.2f}  {'met' if reached <= goal else 'MISSED'}")
    return int(any(reached > goal for _, reached, goal in goals))


if __name__ == "__main__":
    sys.exit(main())
