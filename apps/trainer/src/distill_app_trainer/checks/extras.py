"""Whether the packages are installed that a run needs beside this app's own."""

import importlib.util
import shutil

from distill_app_trainer.errors import RunFileError, SetKey
from distill_app_trainer.runfile.kinds import ExportStage
from distill_app_trainer.runfile.schema import RunConfig
from distill_app_trainer.runfile.stage import Task
from distill_app_trainer.spelling import did_you_mean, nearest

REPORTERS = {
    "tensorboard": ("tensorboard", "distill-app-trainer[tensorboard]"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
    "trackio": ("trackio", "trackio"),
    "comet_ml": ("comet_ml", "comet-ml"),
    "swanlab": ("swanlab", "swanlab"),
}
"""Where training can report to besides the run's own report: the module, and what to install."""


def check_reporters(config: RunConfig) -> None:
    """Refuse a reporter that is unknown or not installed.

    Raises:
        RunFileError: Names the command that installs it.
    """
    for name in config.run.report_to:
        if name not in REPORTERS:
            right = nearest(name, REPORTERS)
            others = [right if one == name else one for one in config.run.report_to if one != name or right]
            raise RunFileError(
                f"run.report_to: {name!r} is unknown.{did_you_mean(name, REPORTERS)} Allowed: "
                f"{', '.join(REPORTERS)}.",
                fix=SetKey(("run", "report_to"), others or None),
            )
        _need(*REPORTERS[name], f"run.report_to = {name!r}")


def check_exporter(name: str, stage: ExportStage, task: Task) -> None:
    """Refuse an export for which there is no exporter, or whose exporter or runtime is not installed."""
    from distill_deploy import ExportError, export_path

    at = ("stages", name)
    try:
        path = export_path(
            task,
            format=stage.format,
            precision=stage.precision,
            exporter=stage.exporter,
            isolated=stage.isolated,
        )
    except ExportError as error:
        key = (*at, str(error.field))
        raise RunFileError(f"stages.{name}: {error}.", fix=SetKey(key, error.suggestion)) from error
    if path.exporter == "plugin":
        return
    module = {"onnx": "onnxruntime", "openvino": "openvino_genai"}.get(path.format, path.format)
    _need(module, f"distill-deploy[{path.format}]", f"stages.{name}: an export to {path.format}")
    if path.exporter == "own":
        return
    if stage.isolated and shutil.which("uv") is None:
        _need("uv", "uv", f"stages.{name}.isolated")
    if not stage.isolated and importlib.util.find_spec("optimum") is None:
        raise RunFileError(
            f"stages.{name}: Optimum, which exports {task} models to {path.format}, is not installed here. "
            "Set isolated to true: uv then creates an environment for it, about 6 GB, once.",
            fix=SetKey((*at, "isolated"), value=True),
        )


def _need(module: str, package: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise RunFileError(
            f"{what} needs {module}, which is not installed. Install it: pip install '{package}'",
            fix=f"pip install '{package}'",
        )
