"""Silence third-party logging: while one call runs, or for a whole process; and how threads wait."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CHATTY = ("torch", "torch.onnx", "torch.export", "accelerate", "peft", "onnxruntime", "onnxscript")


@contextmanager
def quiet() -> Iterator[None]:
    """Switch transformers' progress bars and warnings off, and put its settings back afterwards.

    Errors still raise; what matters is said by our own messages.
    """
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging  # untyped in transformers

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers 5 for a name that goes away in 6.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            # PEFT invents such patterns itself for mixtures whose experts once were layers (DeepSeek-V2).
            warnings.filterwarnings(
                "ignore", message=".*_pattern keys did not match", category=RuntimeWarning
            )
            # PEFT then does what it says: an adapter trained on 4-bit GPT-2 meets its transposed weights.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to", category=UserWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def wait_passively() -> None:
    """Use passive OpenMP waiting; has to be called before torch is imported.

    By default threads spin while they wait, and two of them on a machine whose cores are busy took 18 to 70 s
    for what took 1.4 s with passive waiting (small products on 2 cores under load, torch 2.15).
    """
    import os

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def quieten() -> None:
    """Keep messages of libraries off the screen; their errors still are exceptions.

    Takes effect on libraries that are imported later.
    """
    import os
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore")


def quieten_libraries() -> None:
    """Import torch and transformers, and silence what they set up themselves."""
    import logging

    quieten()
    import torch  # noqa: F401 - it sets the levels of its loggers when it is imported, so they come after
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it publishes no types
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # nor here
    logging.getLogger().addHandler(logging.NullHandler())  # else Python prints what nobody handles
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
