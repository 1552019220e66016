"""A check before training that a model can learn, after which every value is restored."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distill_adapters.errors import GradientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

_SHARE = 0.05  # of the loss that a first-order step is to take away
_HALVINGS = 8


def check_gradients(model: "nn.Module", loss_of: "Callable[[], Tensor]") -> None:
    """Check that every trainable parameter gets a finite gradient, and that following it lowers the loss.

    One forward and backward pass is followed by small steps down the gradient. Trainable parameters, buffers,
    gradients and random states are restored bit for bit; frozen weights are never copied.

    Args:
        model: The model, in training mode.
        loss_of: Computes the loss of one fixed batch again at each call.

    Raises:
        GradientError: Nothing is trainable, a parameter gets no gradient or one that is not finite, or no
            small step lowers the loss.
    """
    import torch

    trained = {name: part for name, part in model.named_parameters() if part.requires_grad}
    if not trained:
        raise GradientError("no parameter is trainable; attach an adapter, or load the model for training.")
    with put_back(model) as values, without_layerdrop(model):
        with _same_dropout():
            loss = loss_of()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        _refuse_missing(trained)
        first = float(loss.detach())
        gradients = [part.grad for part in trained.values() if part.grad is not None]
        squared = sum(
            float(torch.linalg.vector_norm(gradient, dtype=torch.float32)) ** 2 for gradient in gradients
        )
        if squared == 0.0:
            raise GradientError("every gradient is zero: the loss does not depend on what is trained.")
        step = _SHARE * abs(first) / squared
        for _ in range(_HALVINGS):
            with torch.no_grad():
                for part, value in zip(trained.values(), values, strict=True):
                    part.copy_(value)  # and in place: a second copy would be more than training takes
                    if part.grad is not None:
                        part.sub_(part.grad, alpha=step)
            with _same_dropout(), torch.no_grad():
                if float(loss_of()) < first:
                    return
            step /= 4
        raise GradientError(
            f"steps down the gradient do not lower the loss of a batch, which is {first:.4g}."
        )


def _refuse_missing(trained: "dict[str, nn.Parameter]") -> None:
    import torch

    # An expert that no token of the batch was routed to gets none, and may later.
    missing = [name for name, part in trained.items() if part.grad is None and "expert" not in name]
    if missing:
        raise GradientError(
            f"{len(missing)} of {len(trained)} trainable parameters get no gradient, such as {missing[0]}; "
            "freeze them, or leave their module out of the targets."
        )
    for name, part in trained.items():
        if part.grad is not None and not bool(torch.isfinite(part.grad).all()):
            raise GradientError(f"the gradient of {name} is not finite in the first batch.")


@contextmanager
def put_back(model: "nn.Module") -> "Iterator[list[Tensor]]":
    """Restore trainable parameters and buffers bit for bit after the block, without gradients.

    Yields the copies of the parameters, in the model's order.
    """
    import torch

    trained = [part for part in model.parameters() if part.requires_grad]
    values = [part.detach().clone() for part in trained]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield values
    finally:
        with torch.no_grad():
            for part, value in zip(trained, values, strict=True):
                part.copy_(value)
                part.grad = None
            for buffer, kept in buffers:
                buffer.copy_(kept)


@contextmanager
def without_layerdrop(model: "nn.Module") -> "Iterator[None]":
    """Switch off LayerDrop, with which M2M100 and similar models skip layers at random in training."""
    parts: list[Any] = list(model.modules())
    dropping = [(part, part.layerdrop) for part in parts if getattr(part, "layerdrop", 0)]
    for part, _ in dropping:
        part.layerdrop = 0.0
    try:
        yield
    finally:
        for part, share in dropping:
            part.layerdrop = share


@contextmanager
def recomputing(model: Any, arguments: Any) -> "Iterator[None]":
    """Recompute activations inside the block if the training arguments say so, as the Trainer does.

    Args:
        model: A transformers model, or a PEFT model around one; any other is left unchanged.
        arguments: ``transformers.TrainingArguments``.
    """
    # Newer versions of transformers have the first name, older ones the second alone.
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        if getattr(arguments, name, False) and hasattr(model, f"{name}_enable"):
            break
    else:
        yield
        return
    getattr(model, f"{name}_enable")(getattr(arguments, f"{name}_kwargs") or None)
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()


@contextmanager
def _same_dropout() -> "Iterator[None]":
    """Draw the same dropout in every pass, and restore the random states."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
