"""Run a code block of a page as a program, in the fork of a process that has imported torch already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PRELOADED = (
    "torch",
    "transformers.trainer",
    "datasets",
    "peft",
    "distill_adapters.trainer",
    "distill_kd.trainer",
)


def run_forked(text: str, place: str, folder: Path, printed: Path) -> int | None:
    """Run a Python program in a fork of a process that has imported what most pages import.

    Importing torch and transformers takes 6 s of CPU time, and a fork almost none. Each program has its own
    process, folder and names, as if it had been started alone.

    Args:
        text: The program.
        place: The name of the program in error messages.
        folder: The working directory of the program.
        printed: The file that receives its output.

    Returns:
        The exit code of the program.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    process = context.Process(target=_become, args=(text, place, folder, printed))
    process.start()
    process.join()
    return process.exitcode


def _become(text: str, place: str, folder: Path, printed: Path) -> None:
    with printed.open("w", encoding="utf-8") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
        os.chdir(folder)
        sys.path.insert(0, "")
        try:
            exec(compile(text, place, "exec"), {"__name__": "__main__"})  # noqa: S102 - what the page shows
        except Exception:  # noqa: BLE001 - what a page shows may raise anything, and fails here
            traceback.print_exc()
            raise SystemExit(1) from None
        finally:
            with contextlib.suppress(ValueError):
                sys.stdout.flush()
