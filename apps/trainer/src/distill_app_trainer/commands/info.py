"""The commands that print something known: schema, examples, completion."""

import argparse

from distill_app_trainer.commands.command import Command


def schema(arguments: argparse.Namespace) -> None:
    """Print the JSON schema of a run file, for editors, or of report.json."""
    import json

    from distill_app_trainer.report.results import report_schema
    from distill_app_trainer.runfile.read import run_file_schema

    made = report_schema() if arguments.of == "report" else run_file_schema()
    print(json.dumps(made, indent=2))


def examples(_: argparse.Namespace) -> None:
    """List the run files that ship with this command."""
    from distill_app_trainer.runfile.locate import example_names

    print("\n".join(example_names()))


def completion(arguments: argparse.Namespace) -> None:
    """Print code that lets a shell complete commands and options: eval "$(distill-train completion bash)"."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["distill-train"], shell=arguments.shell))


def _schema(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("of", nargs="?", choices=("run", "report"), default="run", help="of which file (run)")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell whose code is printed")


SCHEMA = Command(schema, _schema)
EXAMPLES = Command(examples)
COMPLETION = Command(completion, _completion)
