"""A commented run file for a model and a file of data, with every value that it would have anyway."""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from distill_app_trainer.commands.command import Command
from distill_app_trainer.commands.task import task_of_model
from distill_app_trainer.errors import ReplaceWord, RunFileError
from distill_app_trainer.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from distill_app_trainer.runfile.schema import Adapter, RunConfig

_METRICS = {"seq2seq": ("rougeL", "chrf"), "causal": ("rougeL", "chrf"), "masked": ("accuracy",)}
_LEFT_OUT = ("offload", "ipex", "workers", "compile")  # rarely set by hand


def new(arguments: argparse.Namespace) -> None:
    """Write a commented run file in which every value is resolved."""
    write_run_file(
        Path(arguments.out),
        model=arguments.model,
        data=arguments.data,
        teacher=arguments.teacher,
        adapter=arguments.adapter,
    )
    print(f"{arguments.out}\nNext:   distill-train plan {arguments.out}")


def write_run_file(
    out: Path, *, model: str, data: str, teacher: str | None = None, adapter: "Adapter" = "auto"
) -> None:
    """Write ``out``, a run file that has passed the checks of a run.

    Args:
        out: A TOML file that does not exist.
        model: A folder or a name on the hub: what is trained.
        data: One file, which is split into train, validation and test.
        teacher: Distil from this model.
        adapter: What is trained of the model.

    Raises:
        RunFileError: There is a file already, or model and data do not suit each other.
    """
    from distill_app_trainer.plan.plan import make_plan
    from distill_app_trainer.runfile.schema import Adapter

    if out.exists():
        free = next(
            path for number in range(2, 1000) if not (path := out.with_stem(f"{out.stem}-{number}")).exists()
        )
        raise RunFileError(
            f"{out} exists and is not overwritten. Give another name with --out.",
            fix=ReplaceWord(str(out), str(free)),
        )
    if not out.parent.is_dir():
        raise RunFileError(
            f"There is no folder {out.parent} to write {out.name} into. Make it first: mkdir -p {out.parent}",
            fix=f"mkdir -p {out.parent}",
        )
    allowed = get_args(Adapter)
    if adapter not in allowed:
        raise RunFileError(
            f"--adapter {adapter}: allowed are {', '.join(allowed)}.{did_you_mean(adapter, allowed)}",
            fix=ReplaceWord(adapter, nearest(adapter, allowed) or "auto"),
        )
    task = task_of_model(model, "--from")
    values = {
        "name": out.stem,
        "model": model,
        "data": data,
        "teacher": teacher,
        "adapter": adapter,
        "task": task,
    }
    config = _checked(_text(values), out)
    policy = make_plan(config, task).policies["trained"].explain()
    text = _text(values, [line for line in policy if line[0] not in _LEFT_OUT])
    _checked(text, out)
    out.write_text(text, encoding="utf-8")


def _text(values: Mapping[str, object], policy: Sequence[tuple[str, object, str]] = ()) -> str:
    import tomli_w

    from distill_app_trainer.report.rendering import render

    shown = [(name, tomli_w.dumps({name: value}).strip(), reason) for name, value, reason in policy]
    return render("new.toml.jinja", metrics=_METRICS[str(values["task"])], policy=shown, **values)


def _checked(text: str, out: Path) -> "RunConfig":
    from distill_app_trainer.checks import check_run
    from distill_app_trainer.runfile.read import validate, with_absolute_paths

    config = with_absolute_paths(validate(tomllib.loads(text), name=out.name), out.parent)
    check_run(config)
    return config


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="model", required=True, help="what to train: a folder or a hub name")
    parser.add_argument("--data", required=True, help="one file; it is split into train, validation, test")
    parser.add_argument("--teacher", help="distil from this model")
    parser.add_argument("--adapter", default="auto", help="auto, full, lora or qlora")
    parser.add_argument("--out", default="run.toml", help="the run file to write (run.toml)")


NEW = Command(new, _arguments)
