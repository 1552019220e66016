"""A commented run file for a model and a file of data, with every value that it would have anyway."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from distill_app_trainer.checks.stages import check_run
from distill_app_trainer.errors import Retype, RunFileError, near, nearest
from distill_app_trainer.plan.plan import make_plan
from distill_app_trainer.report.rendering import render
from distill_app_trainer.runfile.hub import described
from distill_app_trainer.runfile.read import validate, with_absolute_paths
from distill_app_trainer.runfile.schema import Adapter, RunConfig, Task

_METRICS = {"seq2seq": ("rougeL", "chrf"), "causal": ("rougeL", "chrf"), "masked": ("accuracy",)}
_LEFT_OUT = ("offload", "ipex", "workers", "compile")  # rarely set by hand


def write_run_file(
    out: Path, *, model: str, data: str, teacher: str | None = None, adapter: Adapter = "auto"
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
    if out.exists():
        free = next(
            path for number in range(2, 1000) if not (path := out.with_stem(f"{out.stem}-{number}")).exists()
        )
        raise RunFileError(
            f"{out} exists and is not overwritten. Give another name with --out.",
            fix=Retype(str(out), str(free)),
        )
    if not out.parent.is_dir():
        raise RunFileError(
            f"There is no folder {out.parent} to write {out.name} into. Make it first: mkdir -p {out.parent}",
            fix=f"mkdir -p {out.parent}",
        )
    allowed = get_args(Adapter)
    if adapter not in allowed:
        raise RunFileError(
            f"--adapter {adapter}: allowed are {', '.join(allowed)}.{nearest(adapter, allowed)}",
            fix=Retype(adapter, near(adapter, allowed) or "auto"),
        )
    task = _task(model)
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


def _task(model: str) -> Task:
    from distill_hwdetect import HardwareError, read_model_facts

    try:
        facts = read_model_facts(described(model, "--from"))
    except (HardwareError, OSError) as error:
        beside = sorted(str(one.parent) for one in Path(model).parent.glob("*/config.json"))
        right = near(model, beside) or next(iter(beside), None)
        raise RunFileError(
            f"--from {model}: {error}{nearest(model, beside)}",
            fix=None if right is None else Retype(model, right),
        ) from None
    if facts.task is None:
        raise RunFileError(
            f"--from {model}: a {facts.family} model is no language model that is known here. Models of the "
            "kinds causal, seq2seq and masked can be trained."
        )
    return facts.task


def _text(values: Mapping[str, object], policy: Sequence[tuple[str, object, str]] = ()) -> str:
    import tomli_w

    shown = [(name, tomli_w.dumps({name: value}).strip(), reason) for name, value, reason in policy]
    return render("new.toml.jinja", metrics=_METRICS[str(values["task"])], policy=shown, **values)


def _checked(text: str, out: Path) -> RunConfig:
    config = with_absolute_paths(validate(tomllib.loads(text), name=out.name), out.parent)
    check_run(config)
    return config
