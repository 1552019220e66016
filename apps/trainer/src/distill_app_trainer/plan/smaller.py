"""Changes that make a stage smaller, for a machine that it does not fit."""

import dataclasses
from collections.abc import Iterator

from distill_app_trainer.errors import Fix, SetKey
from distill_app_trainer.runfile.references import origin_name
from distill_app_trainer.runfile.schema import Adapter, ModelSource, RunConfig

_SIZES = ("encoder_layers", "decoder_layers", "num_hidden_layers", "n_layer", "num_layers", "d_model")
_ADAPTERS: tuple[Adapter, ...] = ("lora", "qlora")


def smaller_runs(config: RunConfig, stage: str) -> Iterator[tuple[Fix, RunConfig]]:
    """Fixes with the run as they leave it, the mildest change first."""
    longest = max(config.limits.max_source_length or 128, config.limits.max_target_length or 128)
    for length in (longest // 2, longest // 4):
        limits = {"max_source_length": length, "max_target_length": length}
        shorter = dataclasses.replace(config.limits, **limits)
        yield SetKey(("data", "limits"), limits), dataclasses.replace(config, limits=shorter)
    if config.stages[stage].training() is None:
        return
    name = origin_name(config, config.stages[stage].uses_models()[0][1])
    source = config.models[name]

    def with_model(other: ModelSource) -> RunConfig:
        return dataclasses.replace(config, models={**config.models, name: other})

    for adapter in _ADAPTERS if source.path is not None else ():
        other = dataclasses.replace(source, adapter=adapter)
        yield SetKey(("models", name, "adapter"), adapter), with_model(other)
    content = dict(source.config or {})
    for key in _SIZES:
        size = content.get(key)
        while isinstance(size, int) and size > 2:
            size //= 2
            other = dataclasses.replace(source, config={**content, key: size})
            yield SetKey(("models", name, "config", key), size), with_model(other)
