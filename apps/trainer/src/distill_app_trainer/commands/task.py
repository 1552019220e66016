"""The task of a model that is named on the command line."""

from pathlib import Path
from typing import TYPE_CHECKING

from distill_app_trainer.errors import ReplaceWord, RunFileError
from distill_app_trainer.spelling import did_you_mean, nearest

if TYPE_CHECKING:
    from distill_app_trainer.runfile.stage import Task


def task_of_model(model: str, option: str, given: str = "auto") -> "Task":
    """The task that was given, or for auto the one that the model's configuration tells.

    Args:
        model: A folder or a name on the hub.
        option: The option that names it, for the message.
        given: What ``--task`` says.

    Raises:
        RunFileError: There is no such task or model, or the model is not a language model.
    """
    from distill_app_trainer.runfile.hub import described
    from distill_datakit.columns import TASKS
    from distill_hwdetect import HardwareError, read_model_facts

    if given != "auto":
        for known in TASKS:
            if given == known:
                return known
        raise RunFileError(
            f"--task {given}: allowed are auto, {', '.join(TASKS)}.{did_you_mean(given, TASKS)}",
            fix=ReplaceWord(given, nearest(given, TASKS) or "auto"),
        )
    try:
        facts = read_model_facts(described(model, option))
    except (HardwareError, OSError) as error:
        beside = sorted(str(one.parent) for one in Path(model).parent.glob("*/config.json"))
        right = nearest(model, beside) or next(iter(beside), None)
        raise RunFileError(
            f"{option} {model}: {error}{did_you_mean(model, beside)}",
            fix=None if right is None else ReplaceWord(model, right),
        ) from None
    if facts.task is None:
        raise RunFileError(
            f"{option} {model}: a {facts.family} model does not say which task it has: "
            f"{', '.join(TASKS[:-1])} or {TASKS[-1]}."
        )
    return facts.task
