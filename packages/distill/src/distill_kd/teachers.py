"""Teachers, and the targets that they produce for a batch."""

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from distill_kd.errors import HeadError
from distill_kd.lm_head import HiddenTarget, callable_head, check_head, stopped_at_head

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DenseTarget:
    """The teacher's distribution over all tokens at every position.

    Attributes:
        log_probs: ``(batch, seq, vocab)``, in the teacher's dtype and on its device. A constant per position
            is without effect, since every divergence normalises the positions it selects: raw logits are
            log-probabilities here, and padding is never put through a softmax.
    """

    log_probs: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """``(batch, seq)``."""
        return tuple(self.log_probs.shape[:-1])

    def rows(self, index: Tensor) -> tuple[Tensor, ...]:
        """Logits ``(rows, vocab)`` of some of the ``batch * seq`` positions."""
        return (self.log_probs.flatten(0, 1)[index.to(self.log_probs.device)],)


@dataclass(frozen=True)
class TopKTarget:
    """The teacher's probabilities of its most likely tokens, and of all others together.

    Attributes:
        ids: The tokens, ``(batch, seq, k)``, int64; in no order, none twice at one position.
        log_probs: Their log-probabilities at ``temperature``, ``(batch, seq, k)``, float32.
        tail: Log-probability of all other tokens together, ``(batch, seq)``, float32; with those of the k
            tokens it makes 1. Positions without a label hold k zeros in all three: nothing reads them.
        temperature: What the distribution was softened with; it cannot be softened again.
    """

    ids: Tensor
    log_probs: Tensor
    tail: Tensor
    temperature: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """``(batch, seq)``."""
        return tuple(self.tail.shape)

    def rows(self, index: Tensor) -> tuple[Tensor, ...]:
        """Ids and log-probabilities ``(rows, k)`` and tails ``(rows,)`` of some of the positions."""
        place = index.to(self.ids.device)
        return (
            self.ids.flatten(0, 1)[place],
            self.log_probs.flatten(0, 1)[place],
            self.tail.flatten()[place],
        )


Target: TypeAlias = HiddenTarget | DenseTarget | TopKTarget


@runtime_checkable
class Teacher(Protocol):
    """Produces the teacher's targets for a batch."""

    def target(self, batch: Mapping[str, Tensor]) -> Target:
        """The teacher's target for the positions in ``batch``, one for each of the student's logits."""


class LiveTeacher:
    """A model that runs beside the student, without gradients, in evaluation mode, in its own dtype.

    Nothing of it is trained or saved.

    Args:
        model: A transformers model of the student's task, or one that takes and returns the same names.
        tokenizer: Its tokenizer, so that the trainer can check that both use the same vocabulary.
    """

    def __init__(self, model: nn.Module, *, tokenizer: "PreTrainedTokenizerBase | None" = None) -> None:
        self.model = model.eval().requires_grad_(False)  # noqa: FBT003 - torch's signature
        self.tokenizer = tokenizer
        self._head: Callable[[Tensor], Tensor] | None = None
        self._asked = False

    def target(self, batch: Mapping[str, Tensor]) -> HiddenTarget | DenseTarget:
        """Run the model on what it understands of ``batch``, without the labels.

        Args:
            batch: The student's inputs; an encoder-decoder needs ``decoder_input_ids`` among them.

        Returns:
            What its output head would read, and the head, so that logits are computed where they are needed
            and as many as fit; its logits, where the head cannot be applied separately. On its own device.

        Raises:
            KeyError: The model is an encoder-decoder and the batch has no ``decoder_input_ids``.
        """
        config = getattr(self.model, "config", None)
        if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" not in batch:
            raise KeyError(
                "decoder_input_ids: an encoder-decoder teacher must read the student's own decoder inputs; "
                "make them with distill_adapters.decoder_inputs(student, labels)."
            )
        self.model.eval()  # whoever called train() on it meanwhile
        inputs = accepted_inputs(self.model, batch)
        first = next(self.model.parameters(), None)
        if first is not None:
            inputs = {name: value.to(first.device) for name, value in inputs.items()}
        options = {"use_cache": False} if takes(self.model, "use_cache") else {}
        with torch.inference_mode():
            head = self._found_head(inputs)
            if head is None:
                return DenseTarget(self.model(**inputs, **options).logits)
            with stopped_at_head(self.model, lambda hidden: hidden):
                return HiddenTarget(self.model(**inputs, **options), head)

    def _found_head(self, inputs: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor] | None:
        """The model's head, once it is known to give the model's own logits."""
        if not self._asked:
            self._asked = True
            try:
                head = callable_head(self.model)
                check_head(self.model, head, inputs)
            except HeadError as error:
                _logger.warning("the teacher's logits are made all at once: %s", error)
            else:
                self._head = head
        return self._head


def accepted_inputs(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors of ``batch`` that ``model`` names in its forward, without the labels.

    Without labels the model computes no loss of its own; a DistilBERT is not handed a BERT's
    ``token_type_ids``.
    """
    return {name: value for name, value in batch.items() if name != "labels" and takes(model, name)}


def takes(model: nn.Module, name: str) -> bool:
    """Whether the model's forward names this argument (an adapter's wrapper is looked through)."""
    get_base_model = getattr(model, "get_base_model", None)
    unwrapped = get_base_model() if callable(get_base_model) else model
    return name in inspect.signature(unwrapped.forward).parameters
