"""The size of the models of a run file, from their configurations alone."""

from typing import TYPE_CHECKING

from distill_app_trainer.runfile.hub import described
from distill_app_trainer.runfile.references import tokenizer_of
from distill_app_trainer.runfile.schema import ModelSource, RunConfig

if TYPE_CHECKING:
    from distill_hwdetect import ModelFacts


def model_facts(config: RunConfig, source: ModelSource) -> "ModelFacts":
    """The size of a model of the file, from its configuration alone; an adapter's is that of its base."""
    from distill_adapters import adapter_base, vocabulary_size
    from distill_hwdetect import read_model_facts

    if source.path is not None:
        folder = described(source.path, "models")
        if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
            folder = described(str(adapter_base(folder)), "models")
        return read_model_facts(folder)
    content = dict(source.config or {})
    size = vocabulary_size(described(tokenizer_of(config, source), "models"))
    if size is not None:
        content["vocab_size"] = size
    return read_model_facts(content)
