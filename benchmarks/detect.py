"""How long do importing distill-hwdetect and a first detection take, beside what others need to say less?

Every figure is of a fresh interpreter with compiled bytecode: wall time, and processor time, which does not
count what other programs do meanwhile. The peers run in turn with it in the same process of measuring.

    python benchmarks/detect.py [--runs 15]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

GOAL_MS = 30
# What is timed, and what it says; a peer that is not installed is left out.
WORK = {
    "import distill_hwdetect": "import distill_hwdetect",
    "detect(), with its imports": "import distill_hwdetect; distill_hwdetect.detect()",
    "detect() again": "distill_hwdetect.detect()",
    "detect() and choose_policy()": "from distill_hwdetect import Requirements, choose_policy, detect, "
    "read_model_facts; choose_policy(detect(), "
    "Requirements(task='causal', "
    "model=read_model_facts({'model_type': 'gpt2'})))",
    "peer: psutil, CPUs and memory": "import psutil; psutil.cpu_count(); psutil.virtual_memory()",
    "peer: importlib.metadata, one version": "import importlib.metadata; importlib.metadata.version('torch')",
    "peer: torch, cuda.is_available": "import torch; torch.cuda.is_available()",
}
SETUP = {"detect() again": "import distill_hwdetect; distill_hwdetect.detect()"}
TIMED = """
import time
{setup}
wall, processor = time.perf_counter(), time.process_time()
{work}
print(time.perf_counter() - wall, time.process_time() - processor)
"""


def measure(name: str, compiled: str) -> tuple[float, float] | None:
    """Milliseconds of wall and processor time of one fresh interpreter; None where it cannot run.

    Bytecode is written to, and read from, the folder ``compiled``, whatever the environment says of it.
    """
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": compiled}
    code = TIMED.format(setup=SETUP.get(name, ""), work=WORK[name])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        return None
    wall, processor = (float(word) * 1000 for word in done.stdout.split())
    return wall, processor


def main() -> None:
    """Measure in turn, and print medians, best and spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    from distill_hwdetect import detect

    print(f"# python benchmarks/detect.py --runs {runs}")
    profile = detect()
    load = Path("/proc/loadavg").read_text(encoding="utf-8").split()[0]
    print(
        f"# {profile.cpu.name}, {profile.cpu.usable_cores} CPUs, Python {platform.python_version()}, "
        f"load {load}; milliseconds, median of {runs} fresh interpreters, in turn (best)"
    )
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WORK}
    with tempfile.TemporaryDirectory() as compiled:
        for turn in range(runs + 1):
            for name in WORK:
                heavy = name.startswith("peer: torch") and turn > 3
                result = None if heavy else measure(name, compiled)
                if result is not None and turn:  # the first turn compiles
                    found[name].append(result)
    print(f"{'':45} {'wall':>7} {'(best)':>8} {'processor':>10} {'(best)':>8}")
    for name, results in found.items():
        if results:
            walls, processors = ([one[column] for one in results] for column in (0, 1))
            print(
                f"{name:45} {statistics.median(walls):7.1f} {min(walls):8.1f} "
                f"{statistics.median(processors):10.1f} {min(processors):8.1f}"
            )
    for name in ("import distill_hwdetect", "detect(), with its imports"):
        median = statistics.median(one[1] for one in found[name])
        verdict = "met" if median < GOAL_MS else "NOT met"
        print(f"goal: {name} under {GOAL_MS} ms of processor time: {verdict} ({median:.1f})")


if __name__ == "__main__":
    main()
