"""Which layers an adapter goes to, found by structure and not by a table of names."""

import difflib
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from distill_adapters.errors import TargetError

_BLOCK = re.compile(r"^(.*?\.\d+)(?:\.|$)")
_STACKED = "stacked experts: no linear layers; extra={'target_parameters': [...]} of LoRA takes them"
ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)


@dataclass(frozen=True)
class TargetReport:
    """The layers to adapt, and how much of the model they are.

    Attributes:
        names: Full names of the modules.
        coverage: For each block, (adapted, all) linear layers in it.
        excluded: Full name -> why a linear layer, or a tensor of stacked experts, is left alone.
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
    """Find the linear layers an adapter goes to.

    ``auto`` and ``all-linear`` take every linear layer of the model's body: not the output embedding, not
    what stands outside the body (a masked model's head, a pooler), not routers of mixtures, and not layers
    that are used under a global attention mask only or whose weight is read beside the module. ``attention``
    takes those of them that lie in attention modules. Explicit names select by the end of a layer's name,
    patterns such as ``encoder.*.q_proj`` by all of it or its end.

    Args:
        model: A transformers model, quantized or not.
        targets: ``auto``, ``all-linear``, ``attention``, or names and patterns.

    Returns:
        What was chosen, its share of every block, and what was left alone and why.

    Raises:
        TargetError: A name matches no layer, or nothing is left to adapt.
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
            f"{type(model).__name__} has no layer to adapt; {len(linear)} linear layers were seen."
        )
    return TargetReport(
        tuple(chosen), _coverage([*linear, *stacked], chosen), excluded, tuple(filter(None, modules))
    )


def is_linear(module: nn.Module) -> bool:
    """Whether low-rank adapters apply: linear layers, those of bitsandbytes, and GPT-2's Conv1D."""
    return isinstance(module, nn.Linear | Conv1D)


def _stacked_experts(model: nn.Module) -> dict[str, str]:
    """Experts that are slices of one tensor, and no layers of their own."""
    return {name: _STACKED for name, part in model.named_parameters() if part.ndim > 2 and "expert" in name}


def _unfit(model: PreTrainedModel, modules: Mapping[str, nn.Module], name: str) -> str:
    """Why a linear layer of the model is not adapted; empty where it is."""
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
        return "used for tokens with global attention alone"
    if last in ("out_proj", "dt_proj") and "Mamba" in type(modules[name.rpartition(".")[0]]).__name__:
        return "its weight is read beside the module, where an adapter has no effect"
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
            near = difflib.get_close_matches(ending, endings, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TargetError(
                f"target {ending!r} matches no linear layer; there are {', '.join(endings)}.{hint}"
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
