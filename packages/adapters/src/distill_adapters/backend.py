"""A policy's number types, quantization, threads and IPEX in the terms of their libraries."""

from typing import TYPE_CHECKING, Any

from distill_adapters.errors import ModelLoadError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distill_hwdetect import ExecutionPolicy


def torch_dtype(name: object) -> Any:
    """The torch dtype of a name; no other place makes one."""
    import torch

    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise ModelLoadError(
            f"the policy names the number type {name!r}, which torch does not have.",
            field="policy",
            found=name,
        )
    return dtype


def quantization_config(policy: "ExecutionPolicy") -> Any:
    """The configuration of bitsandbytes that a policy asks for; None when it asks for none."""
    kind = policy.quantization.value
    if kind == "none":
        return None
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ModelLoadError(
            f"the policy stores weights in {kind}, which needs bitsandbytes: "
            "pip install 'distill-adapters[qlora]'",
            field="policy",
            found=kind,
            suggestion="none",
        )
    import transformers

    config: Any = transformers.BitsAndBytesConfig  # untyped in transformers
    if kind == "int8":
        return config(load_in_8bit=True)
    return config(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_dtype(policy.compute_dtype.value),
    )


def with_ipex(model: "PreTrainedModel", policy: "ExecutionPolicy", *, training: bool) -> "PreTrainedModel":
    """Apply ``ipex.optimize`` in place.

    Raises:
        ModelLoadError: IPEX is not installed, or does not work with this version of torch or transformers.
    """
    try:
        import intel_extension_for_pytorch as ipex
    except (ImportError, AttributeError, NameError) as error:  # beside another torch or transformers
        raise ModelLoadError(
            "the policy applies ipex.optimize, and intel_extension_for_pytorch cannot be imported. "
            "Set hardware.ipex = 'off', or install 'distill-hwdetect[ipex]'.",
            field="ipex",
            found="on",
            suggestion="off",
        ) from error
    model.train(training)
    dtype = torch_dtype(policy.compute_dtype.value)
    optimized: PreTrainedModel
    if training:
        import torch

        # In training mode it needs an optimizer, and the Trainer makes its own later: hence a stand-in, and
        # no prepacking, which would tie the layout of the weights to it.
        stand_in = torch.optim.SGD(model.parameters(), lr=0.0)
        optimized, _ = ipex.optimize(
            model, dtype=dtype, optimizer=stand_in, inplace=True, weights_prepack=False
        )
    else:
        optimized = ipex.optimize(model, dtype=dtype, inplace=True)
    return optimized


def set_threads(policy: "ExecutionPolicy") -> None:
    """Let torch use the number of threads that the policy names. It holds for the whole process.

    Example:
        >>> import torch
        >>> from distill_adapters import set_threads
        >>> from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts
        >>> needs = Requirements(task="causal", model=read_model_facts("writer"), overrides={"threads": 1})
        >>> set_threads(choose_policy(detect(), needs))
        >>> torch.get_num_threads()
        1
    """
    import torch

    threads = policy.threads.value
    if threads > 0 and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
