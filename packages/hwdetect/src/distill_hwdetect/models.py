"""The size of a model, read from its configuration: no weights, no transformers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from distill_hwdetect.errors import ModelConfigError
from distill_hwdetect.tasks import Task, read_config, task_of


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The sizes that decide how much time and memory a model takes.

    Args:
        parameters: Number of parameters; tied ones are counted once.
        layers: Number of blocks, encoder and decoder together.
        hidden_size: Width of the residual stream.
        vocab_size: Rows of the embedding.
        intermediate_size: Width inside a feed-forward block.
        family: ``model_type`` of the configuration, ``""`` if it has none.
        task: The task of the model; None if its configuration does not say it (a classifier, for example).
        heads: Attention heads.
        kv_heads: Key/value heads (equal to ``heads`` without grouping).
        head_size: Width of a head.
        decoder_layers: How many of ``layers`` belong to a decoder; 0 for encoders.
        embedding_parameters: Parameters that are never quantized: embeddings, heads, norms.
        gated: Whether feed-forward blocks have three matrices instead of two.
        tied: Whether input and output embedding are the same matrix.
        score_copies: Copies of the attention scores that training keeps: 3 if attention has dropout or a
            bias, because the kernels that keep none are not used then; otherwise 0.
    """

    parameters: int
    layers: int
    hidden_size: int
    vocab_size: int
    intermediate_size: int
    family: str = ""
    task: Task | None = None
    heads: int = 1
    kv_heads: int | None = None
    head_size: int | None = None
    decoder_layers: int = 0
    embedding_parameters: int | None = None
    gated: bool = False
    tied: bool = False
    score_copies: int = 0

    @property
    def kv_width(self) -> int:
        """Width of one token's keys (or values) in a layer."""
        size = self.head_size or self.hidden_size // max(self.heads, 1)
        return (self.kv_heads or self.heads) * size

    @property
    def unquantized_parameters(self) -> int:
        """Parameters that stay in full type under int8 and nf4."""
        tables = self.embedding_parameters
        kept = self.vocab_size * self.hidden_size if tables is None else tables
        if self.family in _FLOAT_OUTPUT:
            kept += self.layers * self.intermediate_size * self.hidden_size
        return min(kept, self.parameters)


# transformers keeps their feed-forward's output layer in float32 (_keep_in_fp32_modules).
_FLOAT_OUTPUT = frozenset({"mt5", "t5", "umt5"})
# The classes' own defaults in transformers 5.24 (configuration_*.py), for keys that a configuration leaves
# out.
# hidden, layers (encoder, decoder), heads, inner width, vocabulary, positions, tied embeddings
_DEFAULTS: Mapping[str, tuple[int, int, int, int, int, int, int, bool]] = {
    "albert": (4096, 12, 0, 64, 16384, 30000, 512, True),
    "bart": (1024, 12, 12, 16, 4096, 50265, 1024, True),
    "bert": (768, 12, 0, 12, 3072, 30522, 512, True),
    "distilbert": (768, 6, 0, 12, 3072, 30522, 512, True),
    "gpt2": (768, 0, 12, 12, 3072, 50257, 1024, True),
    "gpt_neox": (6144, 0, 44, 64, 24576, 50432, 2048, False),
    "llama": (4096, 0, 32, 32, 11008, 32000, 0, False),
    "marian": (1024, 12, 12, 16, 4096, 58101, 1024, True),
    "mbart": (1024, 12, 12, 16, 4096, 50265, 1024, True),
    "modernbert": (768, 22, 0, 12, 1152, 50368, 0, True),
    "mt5": (512, 8, 8, 6, 1024, 250112, 0, True),
    "opt": (768, 0, 12, 12, 3072, 50272, 2048, True),
    "roberta": (768, 12, 0, 12, 3072, 50265, 512, True),
    "t5": (512, 6, 6, 8, 2048, 32128, 0, True),
}
_SIZED_LIKE = {
    "m2m_100": "mbart",
    "pegasus": "bart",
    "blenderbot": "bart",
    "blenderbot-small": "bart",
    "umt5": "mt5",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "electra": "bert",
    "longt5": "t5",
    "switch_transformers": "t5",
}
_T5_LIKE = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers"})
# Families whose attention drops out unless their configuration says otherwise, and what they call it.
_DROPS_ATTENTION = frozenset({"bert", "gpt2", "roberta", "camembert", "xlm-roberta", "electra", "distilbert"})
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attn_pdrop", "attention_dropout")
_HIDDEN = ("hidden_size", "d_model", "n_embd", "dim")
_HEADS = ("num_attention_heads", "encoder_attention_heads", "n_head", "n_heads", "num_heads")
_INNER = ("intermediate_size", "d_ff", "n_inner", "encoder_ffn_dim", "ffn_dim", "hidden_dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """The numbers a parameter count needs, by one name whatever the family calls them."""

    family: str
    hidden: int
    encoder: int
    decoder: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    positions: int
    tied: bool
    gated: bool
    experts: int


def read_model_facts(config: Path | str | Mapping[str, object]) -> ModelFacts:
    """Read the size of a model from its configuration alone.

    Args:
        config: A ``config.json``, a folder that holds one, or its content. Keys that are left out take the
            defaults of the model type in transformers.

    Returns:
        The facts. ``parameters`` is exact for GPT-2, OPT, GPT-NeoX, Llama, Qwen3, T5, BART, Marian, BERT,
        RoBERTa, DistilBERT and ModernBERT, and within a few percent for similar models.

    Raises:
        ModelConfigError: The file does not exist or is not a JSON object, a width is not a positive whole
            number, or it is missing and the model type's default is not known.

    Example:
        >>> from distill_hwdetect import read_model_facts
        >>> facts = read_model_facts({"model_type": "gpt2"})
        >>> facts.parameters, facts.layers, facts.task
        (124439808, 12, 'causal')
    """
    content = read_config(config)
    task = _task(content)
    nested = content.get("text_config")
    if isinstance(nested, Mapping):
        content = {**content, **nested}
    # A classifier has the blocks of its model type, whatever its head is for.
    shape = _shape(content, task or _task({**content, "architectures": None}))
    layers, fixed = _count(shape)
    return ModelFacts(
        parameters=layers + fixed,
        layers=shape.encoder + shape.decoder,
        hidden_size=shape.hidden,
        vocab_size=shape.vocabulary,
        intermediate_size=shape.inner,
        family=shape.family,
        task=task,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_size=shape.head_size,
        decoder_layers=shape.encoder if task == "causal" and not shape.decoder else shape.decoder,
        embedding_parameters=fixed,
        gated=shape.gated,
        tied=shape.tied,
        score_copies=_score_copies(content, shape.family),
    )


def _task(content: Mapping[str, object]) -> Task | None:
    """Return the task, None where the configuration does not say."""
    try:
        return task_of(content)
    except ModelConfigError:
        return None


def _shape(content: Mapping[str, object], task: Task | None) -> _Shape:
    family = str(content.get("model_type", ""))
    known = _DEFAULTS.get(_SIZED_LIKE.get(family, family))

    def number(names: tuple[str, ...], default: int | None) -> int:
        for name in names:
            found = content.get(name)
            if isinstance(found, int) and not isinstance(found, bool) and found > 0:
                return found
            if found is not None:
                raise ModelConfigError(
                    f"{name} of a {family or 'model'} must be a whole number above 0, found {found!r}.",
                    field=name,
                    found=found,
                    suggestion=default,
                )
        if default is None:
            raise ModelConfigError(
                f"The configuration of model_type {family!r} gives none of {', '.join(names)}, "
                "and the family's defaults are not known here. Add one of them.",
                field=names[0],
                allowed=names,
                suggestion=names[0],
            )
        return default

    hidden = number(_HIDDEN, known and known[0])
    heads = number(_HEADS, (known and known[3]) or max(1, hidden // 64))
    encoder, decoder = _depths(content, family, known, task, number)
    gated = _gated(content, family, task)
    experts = number(("num_local_experts", "num_experts", "n_routed_experts"), 1)
    inner = number(
        ("moe_intermediate_size", *_INNER) if experts > 1 else _INNER,
        4 * hidden if family == "gpt2" else known and known[4],
    )
    return _Shape(
        family=family,
        hidden=hidden,
        encoder=encoder,
        decoder=decoder,
        heads=heads,
        kv_heads=number(("num_key_value_heads",), heads),
        head_size=number(("head_dim", "d_kv"), 64 if family in _T5_LIKE else max(1, hidden // heads)),
        inner=inner,
        vocabulary=number(("vocab_size",), known and known[5]),
        positions=number(("max_position_embeddings", "n_positions"), (known and known[6]) or 1)
        if known and known[6]
        else 0,
        tied=bool(content.get("tie_word_embeddings", known[7] if known else False)),
        gated=gated,
        experts=experts,
    )


def _score_copies(content: Mapping[str, object], family: str) -> int:
    """Return how many copies of attention's scores training keeps, by the configuration's dropout."""
    if family in _T5_LIKE:
        return 3  # the relative bias
    default = 0.1 if family in _DROPS_ATTENTION else 0.0
    rate = next((content[name] for name in _ATTENTION_DROPOUT if name in content), default)
    return 3 if rate else 0


def _depths(
    content: Mapping[str, object],
    family: str,
    known: tuple[int, int, int, int, int, int, int, bool] | None,
    task: Task | None,
    number: Callable[[tuple[str, ...], int | None], int],
) -> tuple[int, int]:
    """Return the blocks of the encoder and of the decoder; a decoder-only model has no encoder."""
    both = task == "seq2seq" or content.get("is_encoder_decoder") is True
    if family in _T5_LIKE or both or (known and known[1] and known[2]):
        encoder = number(("encoder_layers", *_LAYERS), known and known[1])
        decoder = number(
            ("decoder_layers", "num_decoder_layers"), encoder if family in _T5_LIKE else known and known[2]
        )
        return encoder, decoder
    depth = number(_LAYERS, known and (known[1] or known[2]))
    # A BERT that writes has BERT's blocks; of a family without defaults the task says what they are.
    encodes = bool(known[1]) if known else task == "masked"
    return (depth, 0) if encodes else (0, depth)


def _gated(content: Mapping[str, object], family: str, task: Task | None) -> bool:
    """Whether a feed-forward block has three matrices instead of two."""
    if family in _T5_LIKE:
        default = "relu" if family in ("t5", "longt5", "switch_transformers") else "gated-gelu"
        return str(content.get("feed_forward_proj", default)).startswith("gated")
    # Unknown decoder-only families are sized like Llama: gated, no biases, RMS norms.
    unknown = family not in _DEFAULTS and family not in _SIZED_LIKE and task != "masked"
    return unknown or family in ("llama", "modernbert")


def _count(shape: _Shape) -> tuple[int, int]:
    """Return the parameters inside blocks and those outside (embeddings, heads, final norms)."""
    if shape.family in _T5_LIKE:
        return _count_t5(shape)
    if shape.encoder and shape.decoder:
        return _count_bart(shape)
    if shape.encoder:
        return _count_encoder(shape)
    return _count_decoder(shape)


def _count_t5(shape: _Shape) -> tuple[int, int]:
    h, width = shape.hidden, shape.heads * shape.head_size
    feed = (3 if shape.gated else 2) * h * shape.inner * shape.experts
    blocks = shape.encoder * (4 * h * width + feed + 2 * h) + shape.decoder * (8 * h * width + feed + 3 * h)
    # Relative positions: 32 buckets a head, once in the encoder and once in the decoder.
    return blocks + 2 * 32 * shape.heads, shape.vocabulary * h * (1 if shape.tied else 2) + 2 * h


def _count_bart(shape: _Shape) -> tuple[int, int]:
    h, inner = shape.hidden, shape.inner
    feed = 2 * h * inner + inner + h
    attention = 4 * h * h + 4 * h
    blocks = shape.encoder * (attention + feed + 4 * h) + shape.decoder * (2 * attention + feed + 6 * h)
    # BART's learned positions have two extra rows; it and mBART normalise the embeddings, mBART the output
    # too.
    marian = shape.family == "marian"
    positions = 2 * (shape.positions + (0 if marian else 2)) * h
    norms = 0 if marian else 4 * h
    return blocks, shape.vocabulary * h * (1 if shape.tied else 2) + positions + norms


def _count_encoder(shape: _Shape) -> tuple[int, int]:
    h, inner = shape.hidden, shape.inner
    head = h * h + h + 2 * h + shape.vocabulary
    if shape.family == "modernbert":
        # Blocks without biases; Wi holds gate and input; the first block has no attention norm.
        blocks = shape.encoder * (4 * h * h + 3 * h * inner + 2 * h) - h
        return blocks, shape.vocabulary * h + h + h + h * h + h + shape.vocabulary
    blocks = (1 if shape.family == "albert" else shape.encoder) * (
        4 * h * h + 4 * h + 2 * h * inner + inner + h + 4 * h
    )
    types = {"distilbert": 0, "roberta": 2}.get(shape.family, 2)
    embeddings = (shape.vocabulary + shape.positions + types) * h + 2 * h
    return blocks, embeddings + head


def _count_decoder(shape: _Shape) -> tuple[int, int]:
    h, inner, width = shape.hidden, shape.inner, shape.kv_heads * shape.head_size
    if shape.gated:
        queries = shape.heads * shape.head_size
        norms = 2 * h + (2 * shape.head_size if shape.family.startswith("qwen3") else 0)
        biases = queries + 2 * width if shape.family == "qwen2" else 0
        blocks = shape.decoder * (
            2 * h * queries + 2 * h * width + 3 * h * inner * shape.experts + norms + biases
        )
        return blocks, shape.vocabulary * h * (1 if shape.tied else 2) + h
    blocks = shape.decoder * (4 * h * h + 4 * h + 2 * h * inner + inner + h + 4 * h)
    # GPT-NeoX rotates instead of storing positions; OPT's table has two extra rows.
    positions = {"gpt_neox": 0, "opt": shape.positions + 2}.get(shape.family, shape.positions) * h
    return blocks, shape.vocabulary * h * (1 if shape.tied else 2) + positions + 2 * h
