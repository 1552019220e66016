"""Load, check, split, tokenize, mask and collate text for language models."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_datakit.checking import check
    from distill_datakit.collation import Collator, collator
    from distill_datakit.encoding import Task, TokenizeArguments
    from distill_datakit.errors import (
        DataError,
        DatakitError,
        DroppedRowsWarning,
        SpecialTokensWarning,
        TokenizerError,
    )
    from distill_datakit.files import inspect_columns
    from distill_datakit.filtering import GenerationFilter
    from distill_datakit.fingerprints import fingerprint
    from distill_datakit.foreign import convert_generations
    from distill_datakit.generations import existing_ids, read_generations, write_generations
    from distill_datakit.loading import load
    from distill_datakit.original import prepare_dataset_dict, prepare_tokenized_dataset
    from distill_datakit.packing import LengthSampler, pack, packing_error
    from distill_datakit.report import DataReport
    from distill_datakit.splitting import split
    from distill_datakit.streaming import prepare
    from distill_datakit.tokenization import TokenizedData, share_cut, tokenize
    from distill_datakit.training import TokenizerKind, train_tokenizer

    __version__: str

_HOME = {
    "checking": ("check",),
    "collation": ("Collator", "collator"),
    "encoding": ("Task", "TokenizeArguments"),
    "errors": ("DataError", "DatakitError", "DroppedRowsWarning", "SpecialTokensWarning", "TokenizerError"),
    "files": ("inspect_columns",),
    "filtering": ("GenerationFilter",),
    "fingerprints": ("fingerprint",),
    "foreign": ("convert_generations",),
    "generations": ("existing_ids", "read_generations", "write_generations"),
    "loading": ("load",),
    "original": ("prepare_dataset_dict", "prepare_tokenized_dataset"),
    "packing": ("LengthSampler", "pack", "packing_error"),
    "report": ("DataReport",),
    "splitting": ("split",),
    "streaming": ("prepare",),
    "tokenization": ("TokenizedData", "share_cut", "tokenize"),
    "training": ("TokenizerKind", "train_tokenizer"),
}
_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Collator",
    "DataError",
    "DataReport",
    "DatakitError",
    "DroppedRowsWarning",
    "GenerationFilter",
    "LengthSampler",
    "SpecialTokensWarning",
    "Task",
    "TokenizeArguments",
    "TokenizedData",
    "TokenizerError",
    "TokenizerKind",
    "__version__",
    "check",
    "collator",
    "convert_generations",
    "existing_ids",
    "fingerprint",
    "inspect_columns",
    "load",
    "pack",
    "packing_error",
    "prepare",
    "prepare_dataset_dict",
    "prepare_tokenized_dataset",
    "read_generations",
    "share_cut",
    "split",
    "tokenize",
    "train_tokenizer",
    "write_generations",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("distill-datakit")
    if name in _MODULES:
        return getattr(importlib.import_module(f"distill_datakit.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'distill_datakit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
