"""How large a model is, counted on the model itself."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from distill_adapters.loaded import LoadedModel
    from distill_hwdetect import MemoryEstimate


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """What a model weighs.

    Args:
        total_parameters: All, tied ones once, quantized ones by the numbers they stand for.
        trainable_parameters: Those that get gradients.
        quantized_parameters: Those kept in 4 or 8 bits.
        bytes_in_memory: Of parameters and buffers as they are stored, with the scales of quantization.
        by_dtype: Parameters by stored type, ``{"float32": 1200, ...}``.
        by_module: Parameters by part of the model, blocks taken together:
            ``{"model.layers.*.mlp": 800, ...}``.
        bytes_on_disk: Of the weights where the model was loaded from; None for a model made new, and for one
            from the hub.
        estimate: What training or running it takes, where that was given.
    """

    total_parameters: int
    trainable_parameters: int
    quantized_parameters: int
    bytes_in_memory: int
    by_dtype: dict[str, int]
    by_module: dict[str, int]
    bytes_on_disk: int | None = None
    estimate: "MemoryEstimate | None" = None

    @property
    def quantized_share(self) -> float:
        """Part of the parameters kept in 4 or 8 bits, 0 to 1."""
        return self.quantized_parameters / max(self.total_parameters, 1)

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        estimate = None if self.estimate is None else self.estimate.to_dict()
        return {**fields, "quantized_share": self.quantized_share, "estimate": estimate}

    def __str__(self) -> str:
        """A line that says it all, then one for each type and part."""
        share = f", {self.quantized_share:.0%} quantized" if self.quantized_parameters else ""
        disk = "" if self.bytes_on_disk is None else f", {self.bytes_on_disk / 1e6:.1f} MB on disk"
        counts = f"{self.total_parameters:,} parameters, {self.trainable_parameters:,} trainable"
        lines = [f"{counts}, {self.bytes_in_memory / 1e6:.1f} MB{disk}{share}"]
        if self.estimate is not None:
            budget = self.estimate.budget_bytes
            there = "" if budget is None else f" of {budget / 1e6:,.0f} MB that may be used"
            lines.append(f"estimated peak {self.estimate.total_bytes / 1e6:,.0f} MB{there}")
        for found in (self.by_dtype, self.by_module):
            lines += [f"{count:>15,}  {name}" for name, count in found.items()]
        return "\n".join(lines)


def model_report(loaded: "LoadedModel", *, estimate: "MemoryEstimate | None" = None) -> ModelReport:
    """Count the parameters and bytes of a model.

    Args:
        loaded: The model.
        estimate: What its policy says (``policy.memory``), to stand beside.
    """
    total = trainable = quantized = stored = 0
    by_dtype: dict[str, int] = {}
    by_module: dict[str, int] = {}
    for name, parameter in loaded.model.named_parameters():
        kind = type(parameter).__name__
        count, size = _counted(parameter)
        stored += size
        if kind in ("Params4bit", "Int8Params"):
            quantized += count
        total += count
        trainable += count if parameter.requires_grad else 0
        dtype = "nf4" if kind == "Params4bit" else str(parameter.dtype).removeprefix("torch.")
        part = _part(name)
        by_dtype[dtype] = by_dtype.get(dtype, 0) + count
        by_module[part] = by_module.get(part, 0) + count
    stored += sum(buffer.numel() * buffer.element_size() for buffer in loaded.model.buffers())
    return ModelReport(
        total_parameters=total,
        trainable_parameters=trainable,
        quantized_parameters=quantized,
        bytes_in_memory=stored,
        by_dtype=by_dtype,
        by_module=by_module,
        bytes_on_disk=_on_disk(loaded.path),
        estimate=estimate,
    )


def _counted(parameter: "nn.Parameter") -> tuple[int, int]:
    """How many numbers a parameter stands for, and the bytes they take."""
    import torch

    count = parameter.numel()
    size = count * parameter.element_size()
    if type(parameter).__name__ == "Params4bit":
        state = getattr(parameter, "quant_state", None)
        count = int(torch.Size(state.shape).numel()) if state is not None else 2 * count
        size += _state_bytes(state)
    return count, size


def _part(name: str) -> str:
    """Of ``model.layers.3.mlp.up_proj.weight`` it is ``model.layers.*.mlp``; of adapters what they adapt."""
    plain = re.sub(r"^base_model\.model\.|\.base_layer|\.(lora|ia3|miss)_.*", "", name)
    block = re.match(r"(.*?)\.\d+\.([^.]+)", plain)
    if block:
        return f"{block[1]}.*.{block[2]}"
    return plain.removesuffix(".weight").removesuffix(".bias")


def _on_disk(path: Path | str | None) -> int | None:
    place = None if path is None else Path(path)
    if place is None or not place.exists():
        return None
    files = [place] if place.is_file() else list(place.glob("*.safetensors"))
    return sum(file.stat().st_size for file in files)


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
