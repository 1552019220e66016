"""Which layers an adapter goes to, found by structure and not by a table of names."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from distill_adapters.errors import TargetError

_BLOCK = re.compile(r"^(.*?\.\d+)(?:\.|$)")
_ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)


@dataclass(frozen=True)
class TargetReport:
    """The layers to adapt, and how much of the model they are.

    Attributes:
        names: Full names of the modules.
        coverage: For each block, (adapted, all) linear layers in it.
        excluded: Full name -> why a linear layer is left alone.
    """

    names: tuple[str, ...]
    coverage: Mapping[str, tuple[int, int]]
    excluded: Mapping[str, str]

    def patterns(self) -> list[str]:
        """The shortest list of name endings that selects exactly :attr:`names` among all linear layers."""
        every = {*self.names, *self.excluded}
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
    what stands outside the body (a masked model's head, a pooler), not routers of mixtures. ``attention``
    takes those of them that lie in attention modules. Explicit names select by the end of a layer's name.

    Args:
        model: A transformers model, quantized or not.
        targets: ``auto``, ``all-linear``, ``attention``, or names.

    Returns:
        What was chosen, its share of every block, and what was left alone and why.

    Raises:
        TargetError: A name matches no layer, or nothing is left to adapt.
    """
    linear = {name: module for name, module in model.named_modules() if is_linear(module)}
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    excluded = {name: why for name, module in linear.items() if (why := _unfit(model, name, module is head))}
    if isinstance(targets, str) and targets in ("auto", "all-linear"):
        chosen = [name for name in linear if name not in excluded]
    elif targets == "attention":
        chosen = [
            name for name in linear if name not in excluded and _ATTENTION.search(name.rpartition(".")[0])
        ]
        excluded |= {
            name: "not in attention" for name in linear if name not in chosen and name not in excluded
        }
    else:
        wanted = [targets] if isinstance(targets, str) else list(targets)
        chosen = _named(linear, wanted)
        excluded = {name: excluded.get(name, "not named") for name in linear if name not in chosen}
    if not chosen:
        raise TargetError(
            f"{type(model).__name__} has no layer to adapt; {len(linear)} linear layers were seen."
        )
    return TargetReport(tuple(chosen), _coverage(linear, chosen), excluded)


def is_linear(module: nn.Module) -> bool:
    """Whether low-rank adapters apply: linear layers, those of bitsandbytes, and GPT-2's Conv1D."""
    return isinstance(module, nn.Linear | Conv1D)


def _unfit(model: PreTrainedModel, name: str, head: bool) -> str:  # noqa: FBT001 - private
    """Why a linear layer of the model is not adapted; empty where it is."""
    if head:
        return "output embedding"
    prefix = model.base_model_prefix
    if hasattr(model, prefix) and not name.startswith(prefix + "."):
        return "outside the body: a head"
    last = name.rpartition(".")[2]
    if "pooler" in name.split("."):
        return "pooler"
    if last in ("router", "gate") or ".router." in f".{name}.":
        return "router of a mixture"
    return ""


def _named(linear: Mapping[str, nn.Module], wanted: Sequence[str]) -> list[str]:
    chosen: list[str] = []
    for ending in wanted:
        hit = [name for name in linear if name == ending or name.endswith("." + ending)]
        if not hit:
            endings = sorted({name.rpartition(".")[2] for name in linear})
            near = difflib.get_close_matches(ending, endings, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TargetError(
                f"target {ending!r} matches no linear layer; there are {', '.join(endings)}.{hint}"
            )
        chosen += [name for name in hit if name not in chosen]
    return [name for name in linear if name in chosen]


def _coverage(linear: Mapping[str, nn.Module], chosen: Sequence[str]) -> dict[str, tuple[int, int]]:
    taken = set(chosen)
    counts: dict[str, tuple[int, int]] = {}
    for name in linear:
        found = _BLOCK.match(name)
        if found:
            adapted, every = counts.get(found.group(1), (0, 0))
            counts[found.group(1)] = (adapted + (name in taken), every + 1)
    return counts
