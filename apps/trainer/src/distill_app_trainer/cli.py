# PYTHON_ARGCOMPLETE_OK
"""``distill-train``: commands, options, exit codes. The result goes to stdout, everything else to stderr."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from distill_app_trainer.commands import COMMANDS
from distill_app_trainer.errors import FAILED, INTERRUPTED, REFUSED, USAGE, Fix, TrainerError, UsageError
from distill_app_trainer.spelling import did_you_mean, nearest

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
    """The command line; its subcommands are those of ``commands``."""
    parser = _Parser(prog="distill-train", description=_ABOUT, epilog=_CODES, allow_abbrev=False)
    parser.add_argument(
        "--version", action=_Version, nargs=0, dest=argparse.SUPPRESS, help="print the version"
    )
    several = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        about = str(command.run.__doc__).splitlines()[0]
        one = several.add_parser(name, help=about, description=about, allow_abbrev=False)
        one.add_argument("--debug", action="store_true", help="show where an error comes from, and warnings")
        command.add_arguments(one)
    return parser


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
        parser.exit(USAGE)
    words = [word for word in given if not word.startswith("-")]
    if words and given[0] == words[0] and words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS)
        raise UsageError(
            f"There is no command {words[0]!r}.{hint} Commands: {', '.join(COMMANDS)}.",
            fix=_instead(given, words[0], COMMANDS),
        )
    (several,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    known = {"--help", "--version", "--debug"}
    if words and given[0] == words[0]:
        known |= set(several.choices[words[0]]._option_string_actions)
    for flag in (one.partition("=")[0] for one in given if one.startswith("--") and one != "--"):
        if flag not in known:
            raise UsageError(
                f"There is no option {flag}.{did_you_mean(flag, known)} Allowed: {', '.join(sorted(known))}.",
                fix=_instead(given, flag, known) or f"distill-train {' '.join(words[:1])} --help",
            )
    return parser.parse_args(given)


def _instead(given: Sequence[str], wrong: str, allowed: Iterable[str]) -> str | None:
    """The command line with the nearest right word in place of a wrong one."""
    right = nearest(wrong, allowed)
    if right is None:
        return None
    words = [right + one.removeprefix(wrong) if one.partition("=")[0] == wrong else one for one in given]
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
        arguments = _arguments(given)
        return REFUSED if COMMANDS[arguments.command].run(arguments) is False else 0
    except SystemExit as done:  # --help and --version
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except KeyboardInterrupt:
        if "--debug" in given:
            raise
        return _complain("interrupted", INTERRUPTED)
    except Exception as error:
        if "--debug" in given:
            raise
        return _complain(str(error) or type(error).__name__, _code(error), _fix(error, given))


def _fix(error: Exception, given: Sequence[str]) -> str | None:
    """The fix of an error, as an edit or a command."""
    fix: Fix | None = getattr(error, "fix", None)
    if fix is None:
        return None
    from distill_app_trainer.runfile.edit import written

    return written(fix, given)


def _code(error: Exception) -> int:
    if isinstance(error, TrainerError):
        return error.exit_code
    from distill_datakit import DataError
    from distill_deploy import ExportRefusedError
    from distill_hwdetect import UnsupportedPolicyError
    from distill_metrics import MetricError

    if isinstance(error, DataError | MetricError | UnsupportedPolicyError):
        return USAGE
    return REFUSED if isinstance(error, ExportRefusedError) else FAILED


def _complain(text: str, code: int, fix: str | None = None) -> int:
    """Print the error in one line, whatever the message holds, and its fix in another."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    if fix is not None:
        print(f"fix:   {fix}", file=sys.stderr)
    return code
