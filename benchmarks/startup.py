"""How much CPU the answers cost that need no model: help, version, completion, usage errors.

``python benchmarks/startup.py [REPETITIONS]``. In turn, from one process; the bare interpreter and what other
command lines are made with are measured beside them.
"""

import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from distill_hwdetect import detect

BIN = Path(sys.executable).parent
LIMIT_MS = 150
COMPLETING = {
    "_ARGCOMPLETE": "1",
    "COMP_LINE": "distill-train pl",
    "COMP_POINT": "16",
    "_ARGCOMPLETE_STDOUT_FILENAME": os.devnull,
}
COMMANDS = {
    "distill-train --help": {},
    "distill-train run --help": {},
    "distill-train --version": {},
    "distill-train pl<TAB>": COMPLETING,
    "distill-train rum": {},
    "distill-train run": {},
    "distill-train run --jsn": {},
    "distill-train plan no-such-file": {},
    "distill-eval --help": {},
    "distill-eval --version": {},
    "distill-eval --dta": {},
    "distill-eval --te<TAB>": {**COMPLETING, "COMP_LINE": "distill-eval --te", "COMP_POINT": "17"},
    "distill-edge --help": {},
    "distill-edge rum": {},
}
BESIDE = {"python": "pass", "import argparse": "import argparse", "import typer": "import typer",
          "import pydantic": "from pydantic import TypeAdapter"}  # fmt: skip


def cpu_ms(command: list[str], more: dict[str, str]) -> float:
    """CPU milliseconds of a process, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=os.environ | more, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    """Print a table; fail where a command takes more than the limit."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    cpu = detect().cpu
    print(f"{cpu.name or cpu.machine}, {cpu.usable_cores} usable cores; Python {platform.python_version()}")
    print(f"CPU ms, median (least to most) of {repetitions}; the limit is {LIMIT_MS}\n")
    runs: dict[str, tuple[list[str], dict[str, str]]] = {}
    for text, more in COMMANDS.items():
        program, *arguments = text.removesuffix("<TAB>").split()
        runs[text] = ([str(BIN / program), *arguments], more)
    runs |= {text: ([sys.executable, "-c", code], {}) for text, code in BESIDE.items()}
    took: dict[str, list[float]] = {text: [] for text in runs}
    for _ in range(repetitions):
        for text, (command, more) in runs.items():
            took[text].append(cpu_ms(command, more))
    for text, values in took.items():
        print(f"{text:34} {statistics.median(values):5.0f}  ({min(values):.0f} to {max(values):.0f})")
    slow = [text for text in COMMANDS if statistics.median(took[text]) > LIMIT_MS]
    if slow:
        sys.exit(f"above {LIMIT_MS} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
