"""``distill-edge run EXPORT TEXT...``: an exported model answers, without torch."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 ok, 1 failed, 2 wrong usage, 130 interrupted; only results go to stdout."""
    arguments = _parser().parse_args(argv)
    from distill_deploy import RUNTIME_FILE

    if not (arguments.export / RUNTIME_FILE).is_file():
        found = f"{RUNTIME_FILE} is missing" if arguments.export.is_dir() else "there is no folder"
        print(
            f"distill-edge: an exported folder was expected at {arguments.export}, and {found}; "
            "distill-export makes one",
            file=sys.stderr,
        )
        return USAGE
    try:
        return _run(arguments)
    except (OSError, ValueError, ImportError) as error:
        print(f"distill-edge: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distill-edge", description="Run an exported model without torch.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="answer each TEXT with a line")
    for one in (parser, run):
        one.add_argument("--version", action="version", version=f"distill-edge {version('distill-app-edge')}")
    run.add_argument("export", type=Path, metavar="EXPORT", help="a folder made by distill-export")
    run.add_argument("text", nargs="+", metavar="TEXT", help="a source, a prompt, or a text with masks")
    run.add_argument("--beams", type=_positive, default=1, help="1 is greedy (default)")
    run.add_argument("--max-new-tokens", type=_positive, help="most tokens to generate")
    run.add_argument("--threads", type=_positive, help="default: every usable core")
    run.add_argument("--json", action="store_true", help='a line {"input": ..., "output": ...} for each text')
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _run(arguments: argparse.Namespace) -> int:
    from distill_deploy import load_runtime
    from distill_hwdetect import detect

    # hwdetect knows what a container may use; its quota is less than the cores that are visible.
    threads = arguments.threads or detect().cpu.usable_cores
    runtime = load_runtime(arguments.export, threads=threads)
    outputs = runtime.answer(arguments.text, beams=arguments.beams, max_new_tokens=arguments.max_new_tokens)
    for text, output in zip(arguments.text, outputs, strict=True):
        print(json.dumps({"input": text, "output": output}, ensure_ascii=False) if arguments.json else output)
    return OK
