"""Whether there is room for a run: packages it needs, disk, and what would fit where a stage does not."""

import dataclasses
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

from distill_app_trainer.errors import Fix, RunFileError, Setting, WouldNotFitError, near, nearest
from distill_app_trainer.runfile.references import origin, variants
from distill_app_trainer.runfile.schema import (
    DistillStage,
    ExportStage,
    FinetuneStage,
    MergeStage,
    RunConfig,
    Task,
)

REPORTERS = {
    "tensorboard": ("tensorboard", "distill-app-trainer[tensorboard]"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
    "trackio": ("trackio", "trackio"),
    "comet_ml": ("comet_ml", "comet-ml"),
    "swanlab": ("swanlab", "swanlab"),
}
"""Where training can report to besides the run's own report: the module, and what to install."""
_WEIGHT_BYTES = 4
_STATES = (
    4  # a checkpoint's weights and AdamW's two moments, and the weights once more while they are written
)


def check_extras(config: RunConfig, task: Task) -> None:
    """Refuse what needs a package that is not installed.

    Raises:
        RunFileError: Names the command that installs it.
    """
    for name in config.run.report_to:
        if name not in REPORTERS:
            right = near(name, REPORTERS)
            others = [right if one == name else one for one in config.run.report_to if one != name or right]
            raise RunFileError(
                f"run.report_to: {name!r} is unknown.{nearest(name, REPORTERS)} Allowed: "
                f"{', '.join(REPORTERS)}.",
                fix=Setting(("run", "report_to"), others or None),
            )
        _need(*REPORTERS[name], f"run.report_to = {name!r}")
    for name, stage in config.stages.items():
        if isinstance(stage, ExportStage):
            _check_export(name, stage, task)


def _check_export(name: str, stage: ExportStage, task: Task) -> None:
    """Refuse an export that has no path, or whose exporter or runtime is not there."""
    from distill_deploy import ExportError, export_path

    at = ("stages", name)
    try:
        path = export_path(task, format=stage.format, exporter=stage.exporter, isolated=stage.isolated)
    except ExportError as error:
        own = stage.exporter == "own" and stage.isolated
        key, right = ("exporter", "optimum") if own else ("format", "auto")
        raise RunFileError(
            f"stages.{name}: {error}. Set {key} to {right!r}.", fix=Setting((*at, key), right)
        ) from error
    module = {"onnx": "onnxruntime", "openvino": "openvino_genai"}.get(path.format, path.format)
    _need(module, f"distill-deploy[{path.format}]", f"stages.{name}: an export to {path.format}")
    if path.exporter == "own":
        return
    if stage.isolated and shutil.which("uv") is None:
        _need("uv", "uv", f"stages.{name}.isolated")
    if not stage.isolated and importlib.util.find_spec("optimum") is None:
        raise RunFileError(
            f"stages.{name}: Optimum, which exports {task} models to {path.format}, is not installed here. "
            "Set isolated to true: uv then makes it an environment of its own, some 6 GB, once.",
            fix=Setting((*at, "isolated"), value=True),
        )


def _need(module: str, package: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise RunFileError(
            f"{what} needs {module}, which is not installed. Install it: pip install '{package}'",
            fix=f"pip install '{package}'",
        )


def check_disk(config: RunConfig, parameters: dict[str, int]) -> None:
    """Refuse a run whose models would not fit on the disk.

    Args:
        config: A checked run.
        parameters: Of each model of the file.

    Raises:
        WouldNotFitError: Says what is needed, what is free, and where there is more.
    """
    needed = _disk_bytes(config, parameters)
    folder = _existing(Path(config.run.folder).expanduser().resolve())
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return
    others = [place for place in _places() if shutil.disk_usage(place).free > needed]
    where = f" There is more in {others[0]}." if others else ""
    raise WouldNotFitError(
        f"The models of this run need about {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free "
        f"in {folder}.{where} Free some, or set run.folder to a place with more.",
        fix=Setting(("run", "folder"), str(others[0] / "runs")) if others else None,
    )


def _disk_bytes(config: RunConfig, parameters: dict[str, int]) -> int:
    """What the models of a run take, and the largest checkpoint beside them."""
    total, largest = 0, 0
    for name, stage in config.stages.items():
        if not isinstance(stage, FinetuneStage | DistillStage | MergeStage | ExportStage):
            continue
        source = origin(config, stage.model)
        size = _WEIGHT_BYTES * next(parameters[key] for key, one in config.models.items() if one is source)
        adapted = source.adapter in ("lora", "qlora") and isinstance(stage, FinetuneStage | DistillStage)
        total += 0 if adapted else size * len(variants(config, name))
        if isinstance(stage, FinetuneStage | DistillStage) and not adapted:
            largest = max(largest, _STATES * size)
    return total + largest


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _places() -> Iterator[Path]:
    import tempfile

    yield from (Path.home(), Path(tempfile.gettempdir()))


def what_would_fit(config: RunConfig, stage: str) -> Iterator[tuple[Fix, RunConfig]]:
    """Changes that make a stage smaller, the mildest first."""
    longest = max(config.limits.max_source_length or 128, config.limits.max_target_length or 128)
    for length in (longest // 2, longest // 4):
        shorter = dataclasses.replace(config.limits, max_source_length=length, max_target_length=length)
        limits = {"max_source_length": length, "max_target_length": length}
        yield Setting(("data", "limits"), limits), dataclasses.replace(config, limits=shorter)
    named = config.stages[stage]
    if not isinstance(named, FinetuneStage | DistillStage):
        return
    source = origin(config, named.model)
    name = next(key for key, one in config.models.items() if one is source)
    for adapter in ("lora", "qlora") if source.path is not None else ():
        smaller = dataclasses.replace(source, adapter=adapter)
        yield (
            Setting(("models", name, "adapter"), adapter),
            dataclasses.replace(config, models={**config.models, name: smaller}),
        )
    content = dict(source.config or {})
    for key in ("encoder_layers", "decoder_layers", "num_hidden_layers", "n_layer", "num_layers", "d_model"):
        size = content.get(key)
        while isinstance(size, int) and size > 2:
            size //= 2
            less = dataclasses.replace(source, config={**content, key: size})
            yield (
                Setting(("models", name, "config", key), size),
                dataclasses.replace(config, models={**config.models, name: less}),
            )
