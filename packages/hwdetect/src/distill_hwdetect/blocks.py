"""What one block of a model keeps for its backward pass, as data.

Counted, not fitted: the storages that ``torch.autograd.graph.saved_tensors_hooks`` sees in transformers 5.24
on torch 2.15, parameters left out, per token and in elements; tests/hardware/test_saved_activations.py counts
again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_hwdetect.models import ModelFacts

# What is trained (``full``, ``lora``, ``qlora``), and the adapters' dropout.
Case = tuple[str, float]


@dataclass(frozen=True)
class Kept:
    """Elements a token leaves in a block: ``hidden * h + inner * ff + keys * kv``."""

    hidden: float
    inner: float
    keys: float = 0.0


@dataclass(frozen=True)
class Block:
    """A kind of block, by what is trained.

    Args:
        full: All weights.
        dropped: Adapters on every linear layer, with dropout.
        plain: The same without dropout.
        linears: Adapted layers; each keeps one element a rank and token.
        cross: Widths that a decoder's block keeps of each source token, in the same three cases.
    """

    full: Kept
    dropped: Kept
    plain: Kept
    linears: int
    cross: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def elements(self, facts: "ModelFacts", case: Case, *, rank: int = 8) -> float:
        """Return the elements that one token leaves."""
        kept = (self.full, self.dropped, self.plain)[_place(case)]
        own = 0 if case[0] == "full" else self.linears * rank
        inner = kept.inner + (GATE if facts.gated and self is not LLAMA else 0)
        body = kept.hidden * facts.hidden_size + inner * facts.intermediate_size
        return body + kept.keys * facts.kv_width + own

    def crossed(self, facts: "ModelFacts", case: Case) -> float:
        """Return the elements that one source token leaves in a decoder's block."""
        return self.cross[_place(case)] * facts.hidden_size


def _place(case: Case) -> int:
    adapter, dropout = case
    return 0 if adapter == "full" else 1 if dropout else 2


# What a gated feed-forward keeps more, in inner widths; Llama's numbers hold it already.
GATE = 5
LLAMA = Block(Kept(8, 4, 2), Kept(16, 5, 2), Kept(6, 4, 2), 7)
GPT2 = Block(Kept(10, 5), Kept(13, 6), Kept(10, 5), 4)
BERT = Block(Kept(10, 2), Kept(17, 3), Kept(10, 2), 6)
_CROSS = (2.0, 6.0, 2.0)
T5_ENCODER = Block(Kept(12, 3), Kept(17, 4), Kept(10, 3), 6)
T5_DECODER = Block(Kept(18, 3), Kept(24, 4), Kept(15, 3), 10, _CROSS)
BART_ENCODER = Block(Kept(10, 2), Kept(18, 3), Kept(10, 2), 6)
BART_DECODER = Block(Kept(15, 2), Kept(26, 3), Kept(15, 2), 10, _CROSS)

# Encoder's block, decoder's block; a family that is not named has Llama's, BART's or BERT's by its task.
FAMILIES: Mapping[str, tuple[Block, Block]] = {
    "gpt2": (GPT2, GPT2),
    "gpt_neox": (GPT2, GPT2),
    "opt": (GPT2, GPT2),
    "t5": (T5_ENCODER, T5_DECODER),
    "mt5": (T5_ENCODER, T5_DECODER),
    "umt5": (T5_ENCODER, T5_DECODER),
    "longt5": (T5_ENCODER, T5_DECODER),
    "switch_transformers": (T5_ENCODER, T5_DECODER),
}
_BY_TASK: Mapping[str, tuple[Block, Block]] = {
    "causal": (LLAMA, LLAMA),
    "seq2seq": (BART_ENCODER, BART_DECODER),
    "masked": (BERT, BERT),
}


def blocks_of(family: str, task: str) -> tuple[Block, Block]:
    """Return the encoder's and the decoder's block of a family."""
    return FAMILIES.get(family, _BY_TASK[task])
