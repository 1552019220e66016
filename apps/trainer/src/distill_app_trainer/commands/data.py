"""The command ``data``: what is in a file, as a model would read it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from distill_app_trainer.commands.command import Command, add_json, positive
from distill_app_trainer.commands.task import task_of_model
from distill_app_trainer.errors import ReplaceWord, RunFileError
from distill_app_trainer.spelling import did_you_mean, nearest


def data(arguments: argparse.Namespace) -> bool:
    """Report on data before it is used: what is wrong, truncated, unknown, repeated."""
    file, model = arguments.file, arguments.model
    mapping = _checked(file, arguments.columns)
    from distill_app_trainer.runfile.hub import described

    folder = described(model, "--model")
    if not (folder / "tokenizer_config.json").is_file():
        beside = sorted(str(one.parent) for one in folder.parent.glob("*/tokenizer_config.json"))
        right = nearest(model, beside) or next(iter(beside), None)
        raise RunFileError(
            f"--model {model}: there is no tokenizer in {folder}. Name a folder that has one.",
            fix=None if right is None else ReplaceWord(model, right),
        )
    chosen = task_of_model(model, "--model", arguments.task)

    from distill_adapters import load_tokenizer
    from distill_adapters.quiet import quieten_libraries
    from distill_datakit import check_data

    quieten_libraries()
    found = check_data(
        file,
        load_tokenizer(folder),
        chosen,
        columns=mapping or None,
        max_source_length=arguments.max_source_length,
        max_target_length=arguments.max_target_length,
    )
    if arguments.as_json:
        print(json.dumps(found.to_dict(), default=str))
    else:
        print(found.render(colour=sys.stdout.isatty()))
    return found.ok


def _checked(file: str, columns: Sequence[str]) -> dict[str, str]:
    """Our names of the columns of a file, which has to be there."""
    from distill_adapters import is_hub_name
    from distill_datakit import inspect_columns

    path = Path(file)
    if not is_hub_name(file) and not path.exists():
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        right = nearest(path.name, others)
        raise RunFileError(
            f"There is no file {file}.{did_you_mean(path.name, others)}",
            fix=None if right is None else ReplaceWord(file, str(path.with_name(right))),
        )
    pairs = [text.partition("=") for text in columns]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise RunFileError(f"--column {ours}: OURS=THEIRS is needed, such as source=question.")
        if path.exists() and theirs not in (found := inspect_columns(path)):
            raise RunFileError(
                f"--column {ours}={theirs}: {file} has {', '.join(found)}.",
                fix=ReplaceWord(
                    f"{ours}={theirs}", f"{ours}={nearest(theirs, found) or _first(ours, found)}"
                ),
            )
    return {ours: theirs for ours, _, theirs in pairs}


def _first(ours: str, found: Sequence[str]) -> str:
    return ours if ours in found else found[0]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file that a run file's [data] could name")
    parser.add_argument("--model", required=True, help="a folder or a hub name whose tokenizer reads it")
    parser.add_argument("--task", default="auto", help="causal, seq2seq or masked; auto asks the model")
    parser.add_argument("--column", dest="columns", action="append", default=[], metavar="OURS=THEIRS")
    for name in ("--max-source-length", "--max-target-length"):
        parser.add_argument(name, type=positive, metavar="N", help="tokens beyond which texts are truncated")
    add_json(parser)


DATA = Command(data, _arguments)
