"""The size of a model: parameters by type and part, and bytes in memory and on disk."""

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
    """The size of a model.

    Args:
        total_parameters: Number of parameters. Tied ones count once, and packed 4-bit weights by the number
            of weights in them.
        trainable_parameters: Number of parameters that get gradients.
        quantized_parameters: Number of parameters that are stored in 4 or 8 bits.
        bytes_in_memory: Bytes of parameters and buffers as they are stored, quantization scales included.
        by_dtype: Number of parameters by stored type, ``{"float32": 1200, ...}``.
        by_module: Number of parameters by part of the model, with all blocks added up:
            ``{"model.layers.*.mlp": 800, ...}``.
        bytes_on_disk: Bytes of the weights in the folder or file that the model was loaded from. None for a
            newly made model and for one from the hub.
        estimate: Estimated memory of training or running the model, where it was given.
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
        """Share of the parameters that are stored in 4 or 8 bits, 0 to 1."""
        return self.quantized_parameters / max(self.total_parameters, 1)

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        estimate = None if self.estimate is None else self.estimate.to_dict()
        return {**fields, "quantized_share": self.quantized_share, "estimate": estimate}

    def __str__(self) -> str:
        """The totals in one line, the estimate in another, then a line for each type and part."""
        share = f", {self.quantized_share:.0%} quantized" if self.quantized_parameters else ""
        disk = "" if self.bytes_on_disk is None else f", {self.bytes_on_disk / 1e6:.1f} MB on disk"
        counts = f"{self.total_parameters:,} parameters, {self.trainable_parameters:,} trainable"
        lines = [f"{counts}, {self.bytes_in_memory / 1e6:.1f} MB{disk}{share}"]
        if self.estimate is not None:
            budget = self.estimate.budget_bytes
            there = "" if budget is None else f" of a budget of {budget / 1e6:,.0f} MB"
            lines.append(f"estimated peak {self.estimate.total_bytes / 1e6:,.0f} MB{there}")
        for found in (self.by_dtype, self.by_module):
            lines += [f"{count:>15,}  {name}" for name, count in found.items()]
        return "\n".join(lines)


def model_report(loaded: "LoadedModel", *, estimate: "MemoryEstimate | None" = None) -> ModelReport:
    """Count a model's parameters by stored type and by part, and its bytes in memory and on disk.

    Printed, the report is a summary of a few lines; :meth:`ModelReport.to_dict` gives the numbers as JSON
    types. Shared (tied) parameters count once. Weights in 4 bits, which are packed two to a byte, count by
    the number of weights, and their quantization scales by their bytes.

    Args:
        loaded: The model to count. With an adapter, the parameters of base and adapter are counted together,
            and ``trainable_parameters`` are those of the adapter.
        estimate: Memory estimate of the model's policy (``policy.memory``), to appear in the report.

    Returns:
        The counts. ``bytes_on_disk`` is None unless the model was loaded from a folder or a file.

    Example:
        >>> from distill_adapters import load_tokenizer, model_report, new_model
        >>> config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 1, "n_positions": 16}
        >>> report = model_report(new_model(config, load_tokenizer("writer"), task="causal", seed=0))
        >>> report.by_module["transformer.wpe"], report.by_module["transformer.h.*.mlp"]
        (128, 1104)
        >>> report.total_parameters == report.trainable_parameters == report.by_dtype["float32"]
        True
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
    """The number of weights in a parameter, and their bytes."""
    import torch

    count = parameter.numel()
    size = count * parameter.element_size()
    if type(parameter).__name__ == "Params4bit":
        state = getattr(parameter, "quant_state", None)
        count = int(torch.Size(state.shape).numel()) if state is not None else 2 * count
        size += _state_bytes(state)
    return count, size


def _part(name: str) -> str:
    """``model.layers.*.mlp`` for ``model.layers.3.mlp.up_proj.weight``; an adapter counts to its layer."""
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
    """Bytes of the scales of 4-bit weights, double quantization included."""
    import torch

    if state is None:
        return 0
    own = sum(
        tensor.numel() * tensor.element_size()
        for tensor in (getattr(state, "absmax", None), getattr(state, "code", None))
        if isinstance(tensor, torch.Tensor)
    )
    return own + _state_bytes(getattr(state, "state2", None))
