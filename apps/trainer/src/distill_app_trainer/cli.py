# PYTHON_ARGCOMPLETE_OK
"""``distill-train``: commands, options, exit codes. The result goes to stdout, the talk to stderr."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from distill_app_trainer.commands import commands
from distill_app_trainer.errors import UsageError, nearest

_FAILED, _USAGE, _TOO_BIG, _REFUSED, _INTERRUPTED = 1, 2, 3, 4, 130
_USAGE_ERRORS = ("RunFileError", "RunFolderError", "UsageError", "DataError", "UnsupportedPolicyError",
                 "MetricError")  # fmt: skip
_ABOUT = "Train, distil, evaluate and export small language models from one run file."
_CODES = (
    "exit codes: 0 done; 1 failed; 2 it cannot be done as asked, nothing was loaded; 3 it would not fit; "
    "4 a quality gate failed; 130 interrupted"
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        needed = [one.metavar for one in self._actions if not one.option_strings and one.metavar == "RUN"]
        fix = f"{self.prog} quickstart" if needed and message.startswith("the following") else None
        raise UsageError(f"{message}. See {self.prog} --help.", fix=fix or f"{self.prog} --help")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"distill-train {version('distill-app-trainer')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The command line, whose subcommands are the functions of ``commands``."""
    parser = _Parser(prog="distill-train", description=_ABOUT, epilog=_CODES, allow_abbrev=False)
    parser.add_argument(
        "--version", action=_Version, nargs=0, dest=argparse.SUPPRESS, help="print the version"
    )
    several = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str) -> argparse.ArgumentParser:
        about = str(commands.BY_NAME[name].__doc__).splitlines()[0]
        one = several.add_parser(name, help=about, description=about, allow_abbrev=False)
        one.add_argument("--debug", action="store_true", help="show where an error comes from, and warnings")
        return one

    _add_runs(command)
    _add_others(command)
    return parser


def _add_runs(command: "commands.Maker") -> None:
    """The commands that read a run file or a run folder."""
    for name in ("quickstart", "run", "plan", "cache", "resume", "report", "list"):
        one = command(name)
        if name in ("run", "plan", "cache"):
            file = one.add_argument(
                "run_file", metavar="RUN", help="a run file (.toml), or the name of one that ships"
            )
            file.completer = _run_files  # type: ignore[attr-defined]  # argcomplete looks for it
        if name in ("resume", "report"):
            one.add_argument("folder", metavar="FOLDER", help="the folder of a run")
        if name == "list":
            one.add_argument(
                "folder", metavar="FOLDER", nargs="?", default="runs", help="where run folders lie (runs)"
            )
        if name in ("quickstart", "run", "plan", "cache"):
            one.add_argument(
                "--set",
                dest="overrides",
                action="append",
                default=[],
                metavar="KEY=VALUE",
                help="such as stages.baseline.train.steps=100",
            )
        if name != "cache":
            one.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
        if name == "plan":
            one.add_argument("--measure", action="store_true", help="time a few steps of each training")


def _add_others(command: "commands.Maker") -> None:
    """The commands that help to write a run file."""
    one = command("data")
    one.add_argument("file", metavar="FILE", help="what a run file's [data] could name")
    one.add_argument("--model", required=True, help="whose tokenizer reads it: a folder or a hub name")
    one.add_argument("--task", default="auto", help="causal, seq2seq or masked; auto asks the model")
    one.add_argument("--column", dest="columns", action="append", default=[], metavar="OURS=THEIRS")
    for name in ("--max-source-length", "--max-target-length"):
        one.add_argument(name, type=_positive, metavar="N", help="tokens beyond which texts are cut")
    one.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
    one = command("new")
    one.add_argument("--from", dest="model", required=True, help="what to train: a folder or a hub name")
    one.add_argument("--data", required=True, help="one file; it is split into train, validation, test")
    one.add_argument("--teacher", help="distil from this model")
    one.add_argument("--adapter", default="auto", help="auto, full, lora or qlora")
    one.add_argument("--out", default="run.toml", help="the run file to write (run.toml)")
    one = command("merge")
    one.add_argument("adapter", metavar="ADAPTER", help="the folder of a trained adapter")
    one.add_argument("out", metavar="OUT", help="the folder to write, which is not there yet")
    command("schema")
    command("examples")
    one = command("completion")
    one.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose code is printed")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def _run_files(prefix: str, **_: object) -> list[str]:
    """What RUN could be: names of examples, files, and folders on the way to them."""
    from pathlib import Path

    from distill_app_trainer.runfile.locate import example_names

    start = Path(prefix)
    above = start if prefix.endswith("/") else start.parent
    folders = [f"{path}/" for path in above.iterdir() if path.is_dir()] if above.is_dir() else []
    return [*example_names(), *map(str, above.glob("*.toml")), *folders]


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    """The parsed command line.

    Raises:
        UsageError: With the nearest command or option.
    """
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options="long")
    if not given:
        parser.print_help()
        parser.exit(_USAGE)
    words = [word for word in given if not word.startswith("-")]
    if words and given[0] == words[0] and words[0] not in commands.BY_NAME:
        near = nearest(words[0], commands.BY_NAME)
        raise UsageError(
            f"There is no command {words[0]!r}.{near} Commands: {', '.join(commands.BY_NAME)}.",
            fix=_instead(given, words[0], commands.BY_NAME),
        )
    (several,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    known = {"--help", "--version", "--debug"}
    if words and given[0] == words[0]:
        known |= set(several.choices[words[0]]._option_string_actions)
    for flag in (one.partition("=")[0] for one in given if one.startswith("--") and one != "--"):
        if flag not in known:
            raise UsageError(
                f"There is no option {flag}.{nearest(flag, known)} Allowed: {', '.join(sorted(known))}.",
                fix=_instead(given, flag, known) or f"distill-train {' '.join(words[:1])} --help",
            )
    return parser.parse_args(given)


def _instead(given: Sequence[str], wrong: str, allowed: object) -> str | None:
    """The command line with the nearest right word in the place of a wrong one."""
    near = nearest(wrong, allowed).split("'")
    if len(near) < 2:
        return None
    words = [near[1] + one.removeprefix(wrong) if one.partition("=")[0] == wrong else one for one in given]
    return shlex.join(["distill-train", *words])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 1 a failure; 2 something asked for cannot be done, found before torch is imported;
        3 it would not fit this machine; 4 a quality gate failed; 130 interrupted.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = vars(_arguments(given))
        debug = arguments.pop("debug", False)
        command = commands.BY_NAME[arguments.pop("command")]
        if command in commands.LOUD:
            arguments["debug"] = debug
        return int(command(**arguments) is False) * _REFUSED
    except SystemExit as done:  # --help and --version
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except KeyboardInterrupt:
        if "--debug" in given:
            raise
        return _complain("interrupted", _INTERRUPTED)
    except Exception as error:
        if "--debug" in given:
            raise
        return _complain(str(error) or type(error).__name__, _code(error), _fix(error, given))


def _fix(error: Exception, given: Sequence[str]) -> str | None:
    """What mends it, as an edit or a command."""
    if getattr(error, "fix", None) is None:
        return None
    from distill_app_trainer.runfile.edit import written

    return written(error.fix, given)  # type: ignore[attr-defined]  # looked for above


def _code(error: Exception) -> int:
    names = {kind.__name__ for kind in type(error).__mro__}
    if "StoppedError" in names:
        return _INTERRUPTED
    if names & set(_USAGE_ERRORS):
        return _USAGE
    if "WouldNotFitError" in names:
        return _TOO_BIG
    return _REFUSED if "ExportRefusedError" in names else _FAILED


def _complain(text: str, code: int, fix: str | None = None) -> int:
    """One line, whatever the message holds, and one for what mends it."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    if fix is not None:
        print(f"fix:   {fix}", file=sys.stderr)
    return code
