"""What is in memory at once in each part of a training run, in addition to the weights; sizes in bytes.

Where each byte goes was counted on torch 2.15 and transformers 5.24 by a dispatch mode that sees every tensor
that is made and freed, and is counted again in tests/hardware/test_saved_activations.py. A run passes through
these parts, and the largest is the peak:

- ``loss``: all that autograd keeps, and the scores.
- ``head``: the gradient of the scores and of the table that made them, while all activations still live.
- ``blocks``: one recomputed block, in addition to the inputs of the others or to the gradients.
- ``update``: all gradients; of a table that is embedding and head in one, up to three while they are added.
- ``check``: the gradient check before training, on up to four rows, beside a copy of what is trained.
- ``teacher``: its forward pass, before the student's.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distill_hwdetect.blocks import Case, blocks_of
from distill_hwdetect.workload import BYTES_OF, Workload

if TYPE_CHECKING:
    from distill_hwdetect.models import ModelFacts

# Scores of cross-entropy alive at once: logits (causal: and those that have a label), their logarithm, its
# gradient.
LOGITS_COPIES = 3
# What distill-kd's chunked objective takes for the scores of student and teacher by default; in each it works
# on blocks of half a MiB, seven at once (distill_kd.fused_loss, distill_kd.closed_forms).
CHUNK_BYTES, BLOCK_BYTES = 128 * 2**20, 7 * 2**19
# A truncated cache: 47 tokens of a position (distill_kd.cache_config), an id of 8 bytes and a
# log-probability of 4 each, read and spread over the batch.
CACHED_TOKENS, CACHED_ENTRY_BYTES = 47, 24
# Masked models learn from this share of the positions (distill_datakit.collator's default).
MASKED_SHARE = 0.15
# With recomputing tensors below this live in the heap of the C library (distill_adapters.malloc), and
# glibc before 2.38 finds no hole that is large enough for an aligned block of the same size: what is made and
# freed in turn takes twice its size, and four fifths of it stay.
HEAP_BYTES, HEAP_STAYS = 2**18, 0.8
# Without, all but the largest do, and the holes between them are a share of what autograd keeps; weights that
# are dequantized for a moment leave more. Fitted (benchmarks/memory.py).
HOLES, QUANTIZED_HOLES = 0.7, 0.9
# The gradient check takes so many rows (distill_adapters.SafeTrainer).
CHECKED_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What is trained, in bytes.

    Args:
        gradients: Bytes of all gradients.
        states: Bytes of the optimizer's states.
        table: Bytes of the output embedding if it is trained, otherwise 0.
        tied: Whether the output embedding is the input embedding too.
    """

    gradients: float
    states: float
    table: float
    tied: bool


def parts_of(
    facts: "ModelFacts", work: Workload, trained: Trained, *, teacher: "ModelFacts | None"
) -> dict[str, float]:
    """Return what each part of a training run takes beside the weights."""
    waiting = trained.gradients if work.accumulating else 0.0
    parts = {
        name: trained.states + size for name, size in _step(facts, work, trained, waiting, teacher).items()
    }
    small = replace(
        work,
        micro_batch=min(CHECKED_ROWS, work.micro_batch),
        distillation="none",
        accumulating=False,
    )
    checked = _step(facts, small, trained, 0.0, None)
    again = trained.gradients + max(logits_bytes(facts, small), _block(facts, small))
    parts["check"] = trained.gradients + max(*checked.values(), again)
    if teacher is not None:
        parts["teacher"] = trained.states + waiting + _teacher_pass(facts, work, teacher)
    return parts


def _step(
    facts: "ModelFacts",
    work: Workload,
    trained: Trained,
    waiting: float,
    teacher: "ModelFacts | None",
) -> dict[str, float]:
    """Return the parts of one forward and backward pass, without states."""
    kept, scores = float(activation_bytes(facts, work)), float(logits_bytes(facts, work))
    loose = _loose(facts, work)
    left = HEAP_STAYS * loose * _block(facts, work) if work.checkpointing else loose * kept
    kept *= 1 + loose
    if work.distillation != "none":
        # The objective makes the table's gradient together with the loss, unless it was given all scores.
        scores += _met(facts, work, teacher) + (0.0 if work.distillation == "full" else trained.table)
    found = {"loss": waiting + kept + scores}
    if trained.table and work.distillation == "none":
        found["head"] = waiting + kept + scored(work) * facts.vocab_size * 4 + trained.table
    if work.checkpointing:
        block = (1 + loose) * _block(facts, work) + _passing(facts, work)
        found["blocks"] = max(waiting + kept + trained.table, trained.gradients) + block
    # Autograd adds in place to what the objective made, and not to what a matrix product left transposed.
    beside = 2 if work.distillation in ("none", "full") else 1
    summed = beside * trained.table if trained.tied else trained.table if waiting else 0.0
    found["update"] = trained.gradients + summed + left
    return found


def _loose(facts: "ModelFacts", work: Workload) -> float:
    """Return what the heap holds beside activations, as a share of them."""
    if work.device != "cpu":
        return 0.0
    if not work.checkpointing:
        return HOLES if work.quantization == "none" else QUANTIZED_HOLES
    tokens = BYTES_OF[work.compute_dtype] * max(_tokens(work))
    if tokens * facts.hidden_size >= HEAP_BYTES:
        return 0.0
    return 1.0 if tokens * facts.intermediate_size < HEAP_BYTES else 0.5


def _met(facts: "ModelFacts", work: Workload, teacher: "ModelFacts | None") -> float:
    """Return the hidden states of a distillation: the student's, their gradient, twice the teacher's."""
    if work.distillation == "full":
        return 0.0
    own = 2 * _learnt(work) * facts.hidden_size
    return 4.0 * (own + (2 * scored(work) * teacher.hidden_size if teacher else 0))


def _teacher_pass(facts: "ModelFacts", work: Workload, teacher: "ModelFacts") -> float:
    """Return the teacher's forward pass: a block, and its scores where all are made."""
    hidden = 4.0 * sum(_tokens(work)) * teacher.hidden_size
    scores = scored(work) * facts.vocab_size * 4 if work.distillation == "full" else 0
    return hidden + max(_block(teacher, replace(work, adapter="full")), scores)


def _tokens(work: Workload) -> tuple[int, int]:
    """Return the tokens that pass the first stack, and those that pass the decoder behind an encoder."""
    source = work.micro_batch * work.source_length
    return source, work.micro_batch * work.target_length if work.task == "seq2seq" else 0


def layer_bytes(facts: "ModelFacts", work: Workload) -> tuple[float, float]:
    """Return what one encoder block (or the only kind there is) and one decoder block keep."""
    first, second = blocks_of(facts.family, work.task)
    case: Case = (work.adapter, work.lora_dropout)
    source, target = _tokens(work)
    # Attention that drops out or adds a bias keeps its scores, one for each head and pair of tokens.
    scores = facts.score_copies * facts.heads
    encoder = source * (first.elements(facts, case) + scores * work.source_length)
    pairs = scores * (work.target_length + work.source_length)
    decoder = target * (second.elements(facts, case) + pairs) + source * second.crossed(facts, case)
    size = BYTES_OF[work.compute_dtype]
    return size * encoder, size * decoder


def _block(facts: "ModelFacts", work: Workload) -> float:
    encoder, decoder = layer_bytes(facts, work)
    return max(encoder, decoder if work.task == "seq2seq" else 0.0)


def _passing(facts: "ModelFacts", work: Workload) -> float:
    """Return what the backward pass of a block holds for a moment: gradients, a dequantized weight."""
    source, target = _tokens(work)
    size = BYTES_OF[work.compute_dtype]
    feed = 2 * facts.intermediate_size * max(source, target)
    pairs = facts.score_copies and 2 * facts.heads * source * work.source_length
    weight = facts.intermediate_size * facts.hidden_size if work.quantization != "none" else 0
    return size * (max(feed, pairs) + weight)


def activation_bytes(facts: "ModelFacts", work: Workload) -> int:
    """Return what autograd keeps for the backward pass, the scores left out."""
    source, target = _tokens(work)
    encoder, decoder = layer_bytes(facts, work)
    behind = facts.decoder_layers if work.task == "seq2seq" else 0
    width = BYTES_OF[work.compute_dtype] * facts.hidden_size
    # Embeddings, their dropout and the last norm; masked models have a layer and a norm before their head.
    ends = (6 if work.task == "masked" else 3) * width * (source + target)
    if work.checkpointing:
        return int(ends + width * (source * (facts.layers - behind) + target * behind))
    return int(ends + encoder * (facts.layers - behind) + decoder * behind)


def scored(work: Workload) -> int:
    """Return the positions that get scores: all in training, the last of a prompt when a model is run."""
    source, target = _tokens(work)
    if not work.training and work.task != "masked":
        return work.micro_batch
    return target if work.task == "seq2seq" else source


def _learnt(work: Workload) -> float:
    """Return the positions that have a label."""
    return scored(work) * (MASKED_SHARE if work.task == "masked" else 1.0)


def logits_bytes(facts: "ModelFacts", work: Workload) -> int:
    """Return the scores over the vocabulary that are alive at once."""
    scores = scored(work) * facts.vocab_size * 4
    if work.distillation == "none":
        return scores * LOGITS_COPIES
    learnt = _learnt(work) * facts.vocab_size * 4
    if work.distillation == "full":  # both models', then those with a label, their gradient, the teacher's
        return int(2 * scores + 2 * learnt + min(learnt, CHUNK_BYTES / 2) + BLOCK_BYTES)
    if work.distillation == "cached":
        kept = scored(work) * CACHED_TOKENS * CACHED_ENTRY_BYTES
        return int(min(learnt, CHUNK_BYTES / 2) + BLOCK_BYTES + kept)
    # The student's and the teacher's scores of one chunk; the gradient takes the place of the former.
    return int(min(2 * learnt, CHUNK_BYTES) + BLOCK_BYTES)
