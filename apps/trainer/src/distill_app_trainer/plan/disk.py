"""Whether the disk has room for what a run writes."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from distill_app_trainer.errors import SetKey, WouldNotFitError
from distill_app_trainer.runfile.references import origin_name, variants
from distill_app_trainer.runfile.schema import RunConfig

_WEIGHT_BYTES = 4
_STATES = 4  # a checkpoint's weights, AdamW's two moments, and the weights once more while they are written


def check_disk(config: RunConfig, parameters: Mapping[str, int]) -> None:
    """Refuse a run whose models would not fit on the disk.

    Args:
        config: A checked run.
        parameters: The number of parameters of each model of the file.

    Raises:
        WouldNotFitError: Says what is needed, what is free, and which place has more.
    """
    needed = _disk_bytes(config, parameters)
    wanted = Path(config.run.folder).expanduser().resolve()
    folder = next(place for place in (wanted, *wanted.parents) if place.exists())
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return
    places = (Path.home(), Path(tempfile.gettempdir()))
    others = [place for place in places if shutil.disk_usage(place).free > needed]
    where = f" There is more in {others[0]}." if others else ""
    raise WouldNotFitError(
        f"The models of this run need about {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free "
        f"in {folder}.{where} Free some, or set run.folder to a place with more.",
        fix=SetKey(("run", "folder"), str(others[0] / "runs")) if others else None,
    )


def _disk_bytes(config: RunConfig, parameters: Mapping[str, int]) -> int:
    """Bytes of all models and exports of a run, and of the largest checkpoint beside them."""
    total, largest = 0, 0
    for name, stage in config.stages.items():
        if not stage.writes_weights:
            continue
        source = origin_name(config, stage.uses_models()[0][1])
        size = _WEIGHT_BYTES * parameters[source]
        if stage.training() and config.models[source].adapter in ("lora", "qlora"):
            continue
        total += size * len(variants(config, name))
        largest = max(largest, _STATES * size if stage.training() else 0)
    return total + largest
