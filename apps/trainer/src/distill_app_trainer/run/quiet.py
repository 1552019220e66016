"""Silence third-party logging, and set how threads wait."""

_CHATTY = ("torch", "torch.onnx", "torch.export", "accelerate", "peft", "onnxruntime", "onnxscript")


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
    """Import torch and transformers, and quieten what they set up themselves."""
    import logging

    quieten()
    import torch  # noqa: F401 - it sets the levels of its loggers when it is imported, so they come after
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it publishes no types
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # nor here
    logging.getLogger().addHandler(logging.NullHandler())  # else Python prints what nobody handles
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
