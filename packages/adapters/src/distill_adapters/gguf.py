"""Loading a GGUF file as an ordinary model that can be trained and saved."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_adapters.backend import torch_dtype
from distill_adapters.config import Task
from distill_adapters.errors import ModelLoadError
from distill_adapters.loaded import LoadedModel
from distill_adapters.pretrained import finish, load_pretrained, model_class
from distill_adapters.quiet import quiet

if TYPE_CHECKING:
    from distill_hwdetect import ExecutionPolicy


def load_gguf(file: Path, policy: "ExecutionPolicy", task: Task | None, *, training: bool) -> LoadedModel:
    """Load a GGUF file with dequantized weights; a policy that stores 4 or 8 bits quantizes them again.

    Args:
        file: The file, which holds model, configuration and tokenizer.
        policy: Device, number types and quantization.
        task: The task; None means seq2seq for a model with encoder and decoder, else causal.
        training: False for a model that is not trained.

    Raises:
        ModelLoadError: The file is damaged or of a family that transformers cannot read, or ``gguf`` is not
            installed.
    """
    from importlib.util import find_spec

    if find_spec("gguf") is None:
        raise ModelLoadError(
            f"{file} is a GGUF file, which needs gguf: pip install 'distill-adapters[gguf]'",
            field="model",
            found=str(file),
        )
    from transformers import AutoConfig, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        with quiet():
            # The file does not name a class.
            both = AutoConfig.from_pretrained(**where).is_encoder_decoder
            task = task or ("seq2seq" if both else "causal")
            tokenizer = AutoTokenizer.from_pretrained(**where)
            dtype = torch_dtype(policy.storage_dtype.value)
            model = model_class(task).from_pretrained(**where, dtype=dtype)
    # Its readers check nothing: a damaged header ends in whichever of these comes first.
    except (OSError, ValueError, LookupError, TypeError, OverflowError, AttributeError, MemoryError) as error:
        raise ModelLoadError(
            f"{file} cannot be read as GGUF: {type(error).__name__}: {error}", field="model", found=str(file)
        ) from error
    # transformers still marks the model as quantized, and would refuse to save it.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    if policy.quantization.value != "none":
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, quiet():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            model = load_pretrained(Path(folder), policy, task, training=training).model
    model.name_or_path = model.config.name_or_path = str(file)
    return finish(model, tokenizer, policy, task, training=training, path=file)
