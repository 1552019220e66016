"""The layers that get an adapter, found by structure instead of a table of names."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from distill_adapters.errors import TargetError
from distill_adapters.spelling import did_you_mean, near

_BLOCK = re.compile(r"^(.*?\.\d+)(?:\.|$)")
_STACKED = "stacked experts, not linear layers; LoRA adapts them with extra={'target_parameters': [...]}"
ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)


@dataclass(frozen=True)
class TargetReport:
    """The layers to adapt, and how much of the model they cover.

    Attributes:
        names: Full names of the modules to adapt.
        coverage: For each block, the number of its linear layers that are adapted and of all of them.
        excluded: For each linear layer or tensor of stacked experts that is not adapted, the reason.
        modules: Full names of all modules of the model.
    """

    names: tuple[str, ...]
    coverage: Mapping[str, tuple[int, int]]
    excluded: Mapping[str, str]
    modules: tuple[str, ...] = field(default=(), repr=False)

    def patterns(self) -> list[str]:
        """The shortest list of name endings that selects exactly :attr:`names` among all modules."""
        if any(why == _STACKED for why in self.excluded.values()):
            return list(self.names)  # PEFT takes an ending such as up_proj for the experts' as well
        every = {*self.names, *self.excluded, *self.modules}
        chosen: set[str] = set()
        for name in self.names:
            parts = name.split(".")
            for start in range(len(parts) - 1, -1, -1):
                ending = ".".join(parts[start:])
                hit = {other for other in every if other == ending or other.endswith("." + ending)}
                if hit <= set(self.names):
                    chosen.add(ending)
                    break
            else:
                return list(self.names)
        return sorted(chosen)


def resolve_targets(model: PreTrainedModel, targets: str | Sequence[str] = "auto") -> TargetReport:
    """Find the linear layers that get an adapter.

    ``auto`` and ``all-linear`` select every linear layer of the model's body. Not selected are the output
    embedding, layers outside the body (a masked model's head, a pooler), routers of mixtures of experts,
    layers that are only used under a global attention mask, and layers whose weight is read without calling
    the module. ``attention`` selects those of them that lie in attention modules. Explicit names select by
    the end of a layer's name; patterns such as ``encoder.*.q_proj`` by the whole name or its end.

    Args:
        model: A transformers model, quantized or not.
        targets: ``auto``, ``all-linear``, ``attention``, or names and patterns.

    Returns:
        The selected layers, their share of every block, and the reason for each layer that was left out.

    Raises:
        TargetError: A name matches no layer, or the model has no layer to adapt.

    Example:
        >>> from distill_adapters import load_tokenizer, new_model, resolve_targets
        >>> config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1}
        >>> model = new_model(config, load_tokenizer("writer"), task="causal", seed=0).model
        >>> report = resolve_targets(model, "attention")
        >>> report.names, report.coverage
        (('transformer.h.0.attn.c_attn', 'transformer.h.0.attn.c_proj'), {'transformer.h.0': (2, 4)})
    """
    modules = dict(model.named_modules())
    linear = {name: module for name, module in modules.items() if is_linear(module)}
    stacked = _stacked_experts(model)
    excluded = {name: why for name in linear if (why := _unfit(model, modules, name))} | stacked
    if isinstance(targets, str) and targets in ("auto", "all-linear"):
        chosen = [name for name in linear if name not in excluded]
    elif targets == "attention":
        chosen = [
            name for name in linear if name not in excluded and ATTENTION.search(name.rpartition(".")[0])
        ]
        excluded |= {
            name: "not in attention" for name in linear if name not in chosen and name not in excluded
        }
    else:
        wanted = [targets] if isinstance(targets, str) else list(targets)
        chosen = _named(linear, wanted)
        excluded = {name: excluded.get(name, "not named") for name in linear if name not in chosen} | stacked
    if not chosen:
        raise TargetError(
            f"{type(model).__name__} has no layer to adapt: none of its {len(linear)} linear layers fits.",
            field="targets",
            found=targets,
        )
    return TargetReport(
        tuple(chosen), _coverage([*linear, *stacked], chosen), excluded, tuple(filter(None, modules))
    )


def is_linear(module: nn.Module) -> bool:
    """Whether low-rank adapters apply: linear layers, those of bitsandbytes, and GPT-2's Conv1D."""
    return isinstance(module, nn.Linear | Conv1D)


def _stacked_experts(model: nn.Module) -> dict[str, str]:
    """Experts that are slices of one tensor instead of modules."""
    return {name: _STACKED for name, part in model.named_parameters() if part.ndim > 2 and "expert" in name}


def _unfit(model: PreTrainedModel, modules: Mapping[str, nn.Module], name: str) -> str:
    """The reason why a linear layer is not adapted; empty if it is."""
    parents = [name[:place] for place, character in enumerate(name) if character == "."]
    if any(hasattr(modules[parent], "base_layer") for parent in parents):
        return "part of an adapter"
    module, prefix = modules[name], model.base_model_prefix
    if module is _output_embedding(model) or _scores_vocabulary(model, module, name):
        return "output embedding"
    if hasattr(model, prefix) and not name.startswith(prefix + "."):
        return "outside the body: a head"
    if any(part.startswith("pooler") for part in name.split(".")):
        return "pooler"
    last = name.rpartition(".")[2]
    if last in ("router", "gate", "shared_expert_gate") or ".router." in f".{name}.":
        return "router of a mixture"
    if last.endswith("_global"):
        return "only used for tokens with global attention"
    if last in ("out_proj", "dt_proj") and "Mamba" in type(modules[name.rpartition(".")[0]]).__name__:
        return "its weight is read without calling the module, where an adapter has no effect"
    return ""


def _output_embedding(model: PreTrainedModel) -> Any:
    return getattr(model, "get_output_embeddings", lambda: None)()


def _scores_vocabulary(model: PreTrainedModel, module: nn.Module, name: str) -> bool:
    """Whether a layer outside all blocks has one output for each token: FSMT's projection, for example."""
    outputs = getattr(module, "out_features", None)
    sizes = {getattr(model.config, field, None) for field in ("vocab_size", "tgt_vocab_size")}
    return outputs is not None and outputs in sizes and _BLOCK.match(name) is None


def _named(linear: Mapping[str, nn.Module], wanted: Sequence[str]) -> list[str]:
    chosen: list[str] = []
    for ending in wanted:
        hit = [
            name
            for name in linear
            if fnmatch.fnmatchcase(name, ending) or fnmatch.fnmatchcase(name, "*." + ending)
        ]
        if not hit:
            endings = sorted({name.rpartition(".")[2] for name in linear})
            suggestion = near(ending, endings)
            raise TargetError(
                f"target {ending!r} matches no linear layer; the names end in {', '.join(endings)}."
                f"{did_you_mean(suggestion)}",
                field="targets",
                found=ending,
                allowed=endings,
                suggestion=suggestion,
            )
        chosen += [name for name in hit if name not in chosen]
    return [name for name in linear if name in chosen]


def _coverage(linear: Sequence[str], chosen: Sequence[str]) -> dict[str, tuple[int, int]]:
    taken = set(chosen)
    counts: dict[str, tuple[int, int]] = {}
    for name in linear:
        found = _BLOCK.match(name)
        if found:
            adapted, every = counts.get(found.group(1), (0, 0))
            counts[found.group(1)] = (adapted + (name in taken), every + 1)
    return counts
