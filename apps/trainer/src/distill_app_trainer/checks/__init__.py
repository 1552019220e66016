"""Everything that is refused before torch is imported; nothing here decides how a run is executed."""

from distill_app_trainer.checks.data import check_columns, columns_of
from distill_app_trainer.checks.extras import check_exporter, check_reporters
from distill_app_trainer.checks.models import check_hardware, check_model, check_tokenizers, task_of
from distill_app_trainer.checks.stages import check_likelihood, check_stage
from distill_app_trainer.errors import RunFileError, SetKey
from distill_app_trainer.runfile.kinds import DistillStage, ExportStage
from distill_app_trainer.runfile.references import SPLIT_NAMES, is_split, of_kind
from distill_app_trainer.runfile.schema import RunConfig
from distill_app_trainer.runfile.stage import Task


def check_run(config: RunConfig) -> Task:
    """Check names, order, files, columns, metrics, tasks and extras, without loading a model.

    Returns:
        The task of the run.

    Raises:
        RunFileError: The first mistake: what was found, what is allowed, what corrects it.
    """
    if not config.stages:
        model = next(iter(config.models), "")
        raise RunFileError(
            "[stages] is empty; add one, such as [stages.trained] with kind = 'finetune'.",
            fix=SetKey(("stages", "trained"), {"kind": "finetune", "model": model}),
        )
    for name, stage in config.stages.items():
        check_stage(config, name, stage)
    for name, source in config.models.items():
        check_model(config, name, source)
    columns = {name: columns_of(config, name) for name in config.data}
    if is_split(config):
        columns |= dict.fromkeys(SPLIT_NAMES, columns["train"])
    task = task_of(config)
    for name, stage in config.stages.items():
        check_columns(config, name, stage, task, columns)
        check_likelihood(name, stage, task)
    for name, distill in of_kind(config, DistillStage):
        check_tokenizers(config, name, distill)
    check_hardware(config)
    check_reporters(config)
    for name, export in of_kind(config, ExportStage):
        check_exporter(name, export, task)
    return task
