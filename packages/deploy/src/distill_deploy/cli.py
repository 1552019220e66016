"""``python -m distill_deploy``, ``distill-export``: results on stdout, talk on stderr."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED, GATE = 0, 1, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 ok, 1 failed, 2 wrong usage, 4 an export below its floor, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m distill_deploy", description="verify, run and export models"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="check a folder against its manifest")
    check.add_argument("folder", type=Path)
    check.add_argument("--require-manifest", action="store_true", help="refuse a folder without one")
    _run_arguments(commands.add_parser("run", help="run an exported model, without torch"))
    _export_arguments(commands.add_parser("export", help="export a saved model"))
    return _guarded(parser.parse_args(argv))


def export_main(argv: Sequence[str] | None = None) -> int:
    """``distill-export FOLDER OUT``."""
    parser = argparse.ArgumentParser(prog="distill-export", description="export a saved model, verified")
    _export_arguments(parser)
    parser.set_defaults(command="export")
    return _guarded(parser.parse_args(argv))


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("export", type=Path)
    parser.add_argument("text", nargs="+")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (the default) is greedy")
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="makes what is drawn repeatable")
    parser.add_argument("--stop", action="append", default=[], help="end an output at this text (repeatable)")
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--chat", action="store_true", help="each text is a user's message")
    parser.add_argument("--stream", action="store_true", help="print while generating (not with beams)")


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a save_pretrained folder")
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", choices=["causal", "seq2seq", "masked"])
    parser.add_argument("--format", choices=["auto", "ctranslate2", "onnx", "openvino"], default="auto")
    parser.add_argument("--precision", choices=["fp32", "fp16", "int8"], default="int8")
    parser.add_argument("--exporter", choices=["auto", "own", "optimum"], default="auto")
    parser.add_argument(
        "--isolated", action="store_true", help="run Optimum in an environment of its own, made by uv"
    )
    parser.add_argument("--held-out", type=Path, help="a text file, one example a line, to compare on")
    parser.add_argument("--floor", type=float, help="least share of equal tokens")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--accept", action="store_true", help="keep an export below its floor")
    parser.add_argument("--overwrite", action="store_true")


def _guarded(arguments: argparse.Namespace) -> int:
    from distill_deploy.errors import ExportRefusedError

    command = {"verify": _verify, "run": _run, "export": _export}[arguments.command]
    try:
        return command(arguments)
    except ExportRefusedError as error:
        print(error, file=sys.stderr)
        return GATE
    except (OSError, ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130


def _verify(arguments: argparse.Namespace) -> int:
    from distill_deploy.verification import verify

    found = verify(arguments.folder, require_manifest=arguments.require_manifest)
    state = "intact" if found.sealed else "unverified (no MANIFEST.json)"
    print(f"{found.path}: {len(found.files)} files, {state}")
    return OK


def _run(arguments: argparse.Namespace) -> int:
    from distill_deploy.runtime import MaskFiller, load_runtime

    runtime = load_runtime(arguments.export, threads=arguments.threads, seed=arguments.seed)
    if isinstance(runtime, MaskFiller):
        print("\n".join(runtime.complete(arguments.text)))
        return OK
    chosen = {"temperature": arguments.temperature, "top_k": arguments.top_k, "top_p": arguments.top_p}
    chosen |= {"stop": arguments.stop, "max_new_tokens": arguments.max_new_tokens}
    if arguments.stream:
        if arguments.chat or arguments.beams > 1:
            raise ValueError("--stream prints greedy or sampled text as it comes, without --chat and --beams")
        for text in arguments.text:
            for piece in runtime.stream(text, **chosen):
                print(piece, end="", flush=True)
            print()
        return OK
    if arguments.chat:
        texts = [
            runtime.chat([{"role": "user", "content": text}], beams=arguments.beams, **chosen)
            for text in arguments.text
        ]
    else:
        texts = runtime.generate(arguments.text, beams=arguments.beams, **chosen)
    print("\n".join(texts))
    return OK


def _export(arguments: argparse.Namespace) -> int:
    from distill_deploy.exporting import export

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
        floor=arguments.floor,
        accept=arguments.accept,
        max_new_tokens=arguments.max_new_tokens,
        overwrite=arguments.overwrite,
    )
    print(f"{exported.format}: {exported.certificate['reason']}", file=sys.stderr)
    print(json.dumps(dict(exported.certificate), indent=1))
    return OK
