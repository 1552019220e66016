"""How large a model is, counted on the model itself."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_adapters.loading import LoadedModel


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """What a model weighs.

    Args:
        total_parameters: All, tied ones once, quantized ones by the numbers they stand for.
        trainable_parameters: Those that get gradients.
        quantized_parameters: Those kept in 4 or 8 bits.
        bytes_in_memory: Of parameters and buffers as they are stored, with the scales of quantization.
        by_dtype: Parameters by stored type, ``{"float32": 1200, ...}``.
    """

    total_parameters: int
    trainable_parameters: int
    quantized_parameters: int
    bytes_in_memory: int
    by_dtype: dict[str, int]

    @property
    def quantized_share(self) -> float:
        """Part of the parameters kept in 4 or 8 bits, 0 to 1."""
        return self.quantized_parameters / max(self.total_parameters, 1)

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types."""
        return {**dataclasses.asdict(self), "quantized_share": self.quantized_share}

    def __str__(self) -> str:
        """One line for a person."""
        share = f", {self.quantized_share:.0%} quantized" if self.quantized_parameters else ""
        return (
            f"{self.total_parameters:,} parameters, {self.trainable_parameters:,} trainable, "
            f"{self.bytes_in_memory / 1e6:.1f} MB{share}"
        )


def model_report(loaded: "LoadedModel") -> ModelReport:
    """Count the parameters and bytes of a model."""
    import torch

    total = trainable = quantized = stored = 0
    by_dtype: dict[str, int] = {}
    for parameter in loaded.model.parameters():
        kind = type(parameter).__name__
        count = parameter.numel()
        stored += count * parameter.element_size()
        if kind == "Params4bit":
            state = getattr(parameter, "quant_state", None)
            count = int(torch.Size(state.shape).numel()) if state is not None else 2 * count
            stored += _state_bytes(state)
        if kind in ("Params4bit", "Int8Params"):
            quantized += count
        total += count
        trainable += count if parameter.requires_grad else 0
        name = "nf4" if kind == "Params4bit" else str(parameter.dtype).removeprefix("torch.")
        by_dtype[name] = by_dtype.get(name, 0) + count
    stored += sum(buffer.numel() * buffer.element_size() for buffer in loaded.model.buffers())
    return ModelReport(
        total_parameters=total,
        trainable_parameters=trainable,
        quantized_parameters=quantized,
        bytes_in_memory=stored,
        by_dtype=by_dtype,
    )


def _state_bytes(state: object) -> int:
    """Bytes of the scales beside 4-bit weights, with those of double quantization."""
    import torch

    if state is None:
        return 0
    own = sum(
        tensor.numel() * tensor.element_size()
        for tensor in (getattr(state, "absmax", None), getattr(state, "code", None))
        if isinstance(tensor, torch.Tensor)
    )
    return own + _state_bytes(getattr(state, "state2", None))
