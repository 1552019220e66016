"""A model's output head as tensors, and forward passes that end before it, so that no logits are made."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill_kd.errors import HeadError

_CHECKED_TOKENS = 8


@dataclass(frozen=True)
class OutputHead:
    """What turns hidden states into logits, over all of the vocabulary.

    ``logits = cap(scale * (hidden @ concatenated weights^T + bias))``, with ``cap(x) = soft_cap * tanh(x /
    soft_cap)``. A LoRA-adapted head is two weights, the base's and the adapter's ``B``; its hidden states are
    the base's beside those that ``A`` made of them.

    Attributes:
        weights: ``(vocab, width)`` each; hidden states have the sum of the widths.
        bias: ``(vocab,)``.
        scale: Factor on the logits (Cohere's ``logit_scale``, one over Granite's ``logits_scaling``).
        soft_cap: Bound on the logits (Gemma 2's ``final_logit_softcapping``), > 0.
    """

    weights: tuple[Tensor, ...]
    bias: Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None

    @property
    def widths(self) -> list[int]:
        """Columns of the hidden states that each weight reads."""
        return [weight.shape[1] for weight in self.weights]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits ``(..., vocab)`` of hidden states ``(..., width)``."""
        parts = torch.split(hidden, self.widths, dim=-1)
        products = [
            functional.linear(part, weight.to(part.dtype))
            for part, weight in zip(parts, self.weights, strict=True)
        ]
        return self.epilogue(sum(products[1:], products[0]))

    def epilogue(self, products: Tensor) -> Tensor:
        """Bias, scale and cap of what the weights gave."""
        if self.bias is not None:
            products = products + self.bias.to(products.dtype)
        if self.scale != 1:
            products = products * self.scale
        return products if self.soft_cap is None else self.soft_cap * (products / self.soft_cap).tanh()

    def epilogue_backward(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """Gradient of what the weights gave, from that of the ``logits``."""
        if self.soft_cap is not None:
            gradient = gradient * (1 - (logits / self.soft_cap).square())
        return gradient if self.scale == 1 else gradient * self.scale


@dataclass(frozen=True)
class HiddenTarget:
    """Hidden states and the head that makes logits of them, a few positions at a time.

    Attributes:
        hidden: What the head reads, ``(batch, seq, width)``, in the model's dtype and on its device.
        head: Makes ``(..., vocab)`` logits of ``(..., width)``.
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """``(batch, seq)``."""
        return tuple(self.hidden.shape[:-1])

    @property
    def log_probs(self) -> Tensor:
        """All logits at once, ``(batch, seq, vocab)``, for those who can afford them."""
        with torch.inference_mode():
            return self.head(self.hidden)

    def rows(self, index: Tensor) -> tuple[Tensor, ...]:
        """Logits ``(rows, vocab)`` of some of the ``batch * seq`` positions."""
        return (self.head(self.hidden.flatten(0, 1)[index.to(self.hidden.device)]),)


def head_of(model: nn.Module) -> OutputHead:
    """The output head of a transformers model: plain, tied, with bias, scale or soft cap, or LoRA-adapted.

    Raises:
        HeadError: The model names no output embeddings, or they are not a floating-point linear map.
    """
    module = _output_module(model)
    weights, bias = _linear(module)
    tail = _tail(model)
    biases = [one for one in (bias, tail.bias) if one is not None]
    return replace(tail, weights=weights, bias=sum(biases[1:], biases[0]) if biases else None)


def callable_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The head of a model that is only asked: :func:`head_of`, or else its module as it is (int8, say)."""
    try:
        return head_of(model)
    except HeadError:
        module, tail = _output_module(model), _tail(model)
        return lambda hidden: tail.epilogue(module(hidden))


@contextmanager
def stopped_at_head(model: nn.Module, on_hidden: Callable[[Tensor], Any]) -> Iterator[None]:
    """While open, calling ``model`` ends at its output head and returns ``on_hidden(hidden)``.

    What wraps the model (DistributedDataParallel) sees an ordinary call, so that gradients of all of it are
    in step. ``hidden`` is what the head reads, ``(batch, seq, width)``, in autocast's dtype under autocast.

    Raises:
        HeadError: The model names no output embeddings, or, when called, does not use them.
    """
    module = _output_module(model)

    def stop(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        raise _AtHeadError(args[0])

    hook = module.register_forward_pre_hook(stop)
    forward, own = model.forward, "forward" in vars(model)

    def stopped(*args: Any, **options: Any) -> Any:
        try:
            forward(*args, **options)
        except _AtHeadError as reached:
            hidden = reached.hidden
        else:
            raise HeadError(f"{type(model).__name__} did not use its output embeddings in its forward pass.")
        return on_hidden(_widened(module, hidden))

    model.forward = stopped
    try:
        yield
    finally:
        hook.remove()
        if own:
            model.forward = forward
        else:
            del model.forward


def hidden_and_head(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, OutputHead]:
    """Run ``model`` up to its output head.

    Args:
        model: A transformers model of any family, adapted or not.
        inputs: The arguments of its forward pass; an encoder-decoder needs ``decoder_input_ids``.

    Returns:
        What the head would have read, ``(batch, seq, width)``, with gradients if they are on; and the head:
        plain, tied, with bias, scale or soft cap, or LoRA-adapted. ``HiddenTarget(*hidden_and_head(...))``
        is a teacher's target.

    Raises:
        HeadError: The model names no output embeddings, or they are not a floating-point linear map.

    Example:
        >>> import torch
        >>> from transformers import AutoModelForCausalLM
        >>> from distill_kd import hidden_and_head
        >>> model = AutoModelForCausalLM.from_pretrained("writer")
        >>> inputs = {"input_ids": torch.tensor([[5, 6, 7]])}
        >>> hidden, head = hidden_and_head(model, inputs)
        >>> torch.allclose(head(hidden), model(**inputs).logits, atol=1e-5)
        True
    """
    head = head_of(model)
    with stopped_at_head(model, lambda hidden: hidden):
        hidden: Tensor = model(**inputs)
    return hidden, head


def check_head(model: nn.Module, head: Callable[[Tensor], Tensor], inputs: Mapping[str, Any]) -> None:
    """Compare ``head`` with the model's own logits on a few tokens of the first row, in evaluation mode.

    Raises:
        HeadError: The model does something to its logits that the head does not.
    """
    names = ("input_ids", "decoder_input_ids")
    few = {name: inputs[name][:1, :_CHECKED_TOKENS] for name in names if name in inputs}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            expected = model(**few).logits
            with stopped_at_head(model, lambda hidden: hidden):
                hidden = model(**few)
            found = head(hidden).to(expected.dtype)  # not while the head itself is stopped at
    finally:
        model.train(training)
    digits = 1e-4 if expected.dtype in (torch.float32, torch.float64) else 0.03
    if found.shape != expected.shape or (found - expected).abs().max() > digits * expected.abs().max() + 1e-6:
        raise HeadError(
            f"the logits of {type(model).__name__} are not its output embeddings' with bias, scale and soft "
            "cap: something else is done to them."
        )


class _AtHeadError(Exception):
    """The forward pass has reached the output head."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        kind = hidden.device.type
        mixed = torch.is_autocast_enabled(kind)
        self.hidden = hidden.to(torch.get_autocast_dtype(kind)) if mixed else hidden


def _output_module(model: nn.Module) -> nn.Module:
    """The module that holds the output embeddings, as it is called (in its adapter, if it has one)."""
    find = getattr(model, "get_output_embeddings", None)
    module = find() if callable(find) else None
    if not isinstance(module, nn.Module):
        raise HeadError(f"{type(model).__name__} has no get_output_embeddings() that names its output head.")
    return module


def _tail(model: nn.Module) -> OutputHead:
    """What a model does to its logits after the output embeddings; :func:`check_head` sees if that is all."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]  # PEFT's
    config = getattr(base, "config", None)
    bias = getattr(base, "final_logits_bias", None)  # BART-like models, (1, vocab)
    scaling = getattr(config, "logits_scaling", None)  # Granite
    return OutputHead(
        (),
        bias=None if bias is None else bias[0],
        scale=1 / float(scaling) if scaling else float(getattr(base, "logit_scale", 1.0)),  # or Cohere
        soft_cap=getattr(config, "final_logit_softcapping", None),  # Gemma 2
    )


def _linear(module: nn.Module) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Weights and bias of a linear map, that of a LoRA adapter included."""
    chosen = getattr(module, "modules_to_save", None)
    if isinstance(chosen, nn.ModuleDict):  # PEFT's copy that is trained instead
        return _linear(chosen[module.active_adapters[0]])  # type: ignore[index]  # a list of names
    if hasattr(module, "lora_A"):
        weights, bias = _linear(module.base_layer)  # type: ignore[arg-type]  # PEFT's, a module
        return (*weights, *(b.weight for _, b, _, _ in _adapters(module))), bias
    weight: Any = getattr(module, "weight", None)
    plain = isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    if not plain or type(weight) not in (nn.Parameter, Tensor) or not weight.is_floating_point():
        raise HeadError(f"the output head is {type(module).__name__}, not a plain floating-point nn.Linear.")
    return (weight,), cast("Tensor | None", module.bias)


def _widened(module: nn.Module, hidden: Tensor) -> Tensor:
    """Beside the hidden states what the adapters' ``A`` make of them, scaled: ``B`` reads those."""
    if not hasattr(module, "lora_A"):
        return hidden
    made = [
        (a(dropout(hidden.to(a.weight.dtype))) * scaling).to(hidden.dtype)
        for a, _, dropout, scaling in _adapters(module)
    ]
    return torch.cat([hidden, *made], dim=-1)


def _adapters(module: Any) -> list[tuple[Any, Any, Any, float]]:
    """``A``, ``B``, dropout and scaling of the LoRA adapters that act.

    Raises:
        HeadError: They act in another way than by adding ``B A``.
    """
    if module.disable_adapters or module.merged:
        return []
    names = [name for name in module.active_adapters if name in module.lora_A]
    for name in names:
        variant = module.use_dora.get(name) or name in getattr(module, "lora_variant", {})
        if variant or module.lora_B[name].bias is not None:
            raise HeadError("the output head has a DoRA adapter or another variant, or one with a bias.")
    return [
        (module.lora_A[name], module.lora_B[name], module.lora_dropout[name], module.scaling[name])
        for name in names
    ]
