"""Third-party talk kept off the screen while one call runs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
