"""``python -m distill_deploy`` and ``distill-export``: results on stdout, messages on stderr."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 4, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 ok, 1 failed, 2 wrong usage, 4 an export was refused, 130 interrupted."""
    parser = _parser("python -m distill_deploy", "Verify, run and export models.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="check a folder against its manifest")
    _version(check)
    check.add_argument("folder", type=Path, help="the folder to check")
    check.add_argument("--require-manifest", action="store_true", help="refuse a folder without a manifest")
    _run_arguments(commands.add_parser("run", help="run an exported model, without torch"))
    _export_arguments(commands.add_parser("export", help="export a saved model"))
    return _guarded(parser.parse_args(argv))


def export_main(argv: Sequence[str] | None = None) -> int:
    """``distill-export FOLDER OUT``."""
    parser = _parser("distill-export", "Export a saved model and compare the export with it.")
    _export_arguments(parser, version=False)
    parser.set_defaults(command="export")
    return _guarded(parser.parse_args(argv))


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=description)
    _version(parser)
    return parser


def _version(parser: argparse.ArgumentParser) -> None:
    from distill_deploy._version import __version__

    parser.add_argument("--version", action="version", version=f"distill-deploy {__version__}")


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    _version(parser)
    parser.add_argument("export", type=Path, help="a folder made by distill-export")
    parser.add_argument("text", nargs="+", help="a source, a prompt, or a text with masks")
    parser.add_argument("--beams", type=int, default=1, help="number of beams; 1 (the default) is greedy")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="of sampling; 0 (the default) is greedy"
    )
    parser.add_argument("--top-k", type=int, default=0, help="draw from the K most likely tokens; 0: all")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="draw from the most likely tokens with this probability"
    )
    parser.add_argument("--seed", type=int, help="makes what is drawn repeatable")
    parser.add_argument("--stop", action="append", default=[], help="end an output at this text (repeatable)")
    parser.add_argument(
        "--max-new-tokens", type=int, help="most tokens to generate (default: the export's own)"
    )
    parser.add_argument("--threads", type=int, help="number of threads (default: every usable core)")
    parser.add_argument("--chat", action="store_true", help="each text is a user's message")
    parser.add_argument("--stream", action="store_true", help="print while generating (not with beams)")


def _export_arguments(parser: argparse.ArgumentParser, *, version: bool = True) -> None:
    from distill_deploy.routes import EXPORTERS, export_formats

    if version:
        _version(parser)
    parser.add_argument("folder", type=Path, help="a save_pretrained folder")
    parser.add_argument("out", type=Path, help="where the export shall stand")
    parser.add_argument(
        "--task", choices=["causal", "seq2seq", "masked"], help="default: what the configuration says"
    )
    parser.add_argument(
        "--format",
        choices=["auto", *export_formats()],
        default="auto",
        help="default: the first that has the task",
    )
    parser.add_argument(
        "--precision", choices=["fp32", "fp16", "int8"], default="int8", help="of the weights (default: int8)"
    )
    parser.add_argument("--exporter", choices=EXPORTERS, default="auto", help="default: our own if it can")
    parser.add_argument(
        "--isolated", action="store_true", help="run Optimum in an environment of its own, made by uv"
    )
    parser.add_argument("--held-out", type=Path, help="a text file, one example a line, to compare on")
    parser.add_argument(
        "--min-agreement", type=float, help="least share of equal tokens (default: 0.99, of masks 0.97)"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=64, help="length of compared and later outputs (default: 64)"
    )
    parser.add_argument("--allow-failed", action="store_true", help="keep an export that agrees too little")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing export")


def _guarded(arguments: argparse.Namespace) -> int:
    from distill_deploy.errors import ExportRefusedError

    command = {"verify": _verify, "run": _run, "export": _export}[arguments.command]
    try:
        return command(arguments)
    except ExportRefusedError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except (OSError, ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _verify(arguments: argparse.Namespace) -> int:
    from distill_deploy.verification import verify

    found = verify(arguments.folder, require_manifest=arguments.require_manifest)
    state = "intact" if found.has_manifest else "unverified (no MANIFEST.json)"
    print(f"{found.path}: {len(found.files)} files, {state}")
    return OK


def _run(arguments: argparse.Namespace) -> int:
    from distill_deploy.generation import TextGenerator
    from distill_deploy.runtime import load_runtime

    runtime = load_runtime(arguments.export, threads=arguments.threads, seed=arguments.seed)
    if not isinstance(runtime, TextGenerator):
        print("\n".join(runtime.answer(arguments.text)))
        return OK
    chosen = {"temperature": arguments.temperature, "top_k": arguments.top_k, "top_p": arguments.top_p}
    chosen |= {"stop": arguments.stop, "max_new_tokens": arguments.max_new_tokens}
    if arguments.stream:
        return _stream(runtime, arguments, chosen)
    if arguments.chat:
        texts = [
            runtime.chat([{"role": "user", "content": text}], beams=arguments.beams, **chosen)
            for text in arguments.text
        ]
    else:
        texts = runtime.generate(arguments.text, beams=arguments.beams, **chosen)
    print("\n".join(texts))
    return OK


def _stream(runtime: Any, arguments: argparse.Namespace, chosen: dict[str, Any]) -> int:
    if arguments.chat or arguments.beams > 1:
        raise ValueError("--stream prints greedy or sampled text as it comes, without --chat and --beams")
    for text in arguments.text:
        for piece in runtime.stream(text, **chosen):
            print(piece, end="", flush=True)
        print()
    return OK


def _export(arguments: argparse.Namespace) -> int:
    from distill_deploy.exports import export

    held_out = None
    if arguments.held_out is not None:
        held_out = [line for line in arguments.held_out.read_text(encoding="utf-8").splitlines() if line]
    exported = export(
        arguments.folder,
        arguments.out,
        task=arguments.task,
        format=arguments.format,
        precision=arguments.precision,
        exporter=arguments.exporter,
        isolated=arguments.isolated,
        held_out=held_out,
        min_agreement=arguments.min_agreement,
        allow_failed=arguments.allow_failed,
        max_new_tokens=arguments.max_new_tokens,
        overwrite=arguments.overwrite,
    )
    print(f"{exported.format}: {exported.certificate['reason']}", file=sys.stderr)
    print(json.dumps(dict(exported.certificate), indent=1))
    return OK
