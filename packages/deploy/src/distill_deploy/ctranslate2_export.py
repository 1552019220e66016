"""Causal and seq2seq models to CTranslate2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from distill_deploy.errors import ExportError, MissingExtraError
from distill_deploy.exporter import Conversion, Exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from distill_deploy.facts import Task
    from distill_deploy.generation import TextGenerator
    from distill_deploy.source import Source

# What is known to arrive whole: test_architectures.py exports one of each.
ARCHITECTURES: Mapping[Task, Sequence[str]] = {
    "causal": (
        "bloom", "codegen", "falcon", "gemma", "gpt2", "gpt_bigcode", "gptj", "llama", "mistral", "opt",
        "qwen2", "qwen3",
    ),
    "seq2seq": ("bart", "m2m_100", "marian", "mbart", "mt5", "pegasus", "t5", "umt5"),
}  # fmt: skip


class CTranslate2Exporter(Exporter):
    """By CTranslate2's own converter, run by CTranslate2."""

    tasks: ClassVar[tuple[Task, ...]] = ("causal", "seq2seq")
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")
    exporter: ClassVar[str] = "own"

    def computes(self, task: Task, precision: str) -> tuple[str, ...]:
        """In int8 activations are rounded as well; in float32 the weights alone are int8."""
        del task
        return ("int8", "float32") if precision == "int8" else ("float32",)

    def reason(self, task: Task, *, isolated: bool) -> str:
        """Why this exporter was chosen, for the certificate."""
        del isolated
        return f"ctranslate2 runs {task} models without torch, and its library owns the computation"

    def check(self, source: Source, *, isolated: bool) -> None:
        """Refuse an architecture that is not known to arrive whole, and an M2M100 that contradicts itself."""
        del isolated
        if source.model_type not in ARCHITECTURES[source.task]:
            allowed = ARCHITECTURES[source.task]
            raise ExportError(
                f"{source.path} is a {source.model_type} model, which is not exported to ctranslate2; "
                f"{source.task} models that are: {', '.join(allowed)}",
                field="folder",
                found=source.model_type,
                allowed=allowed,
            )
        start, pad = source.facts["decoder_start_token_id"], source.config.pad_token_id
        if source.model_type == "m2m_100" and start == pad:
            raise ExportError(
                f"{source.path} starts its decoder from its padding token ({pad}), after which transformers' "
                "M2M100 numbers positions differently with a cache than without, so there is no one model to "
                "agree with; train it with the end token as decoder_start_token_id, as M2M100 and NLLB are",
                field="decoder_start_token_id",
                found=start,
                suggestion=next(iter(source.facts["eos_token_ids"]), None),
            )

    def convert(self, job: Conversion) -> None:
        """Write model.bin once: what it is computed in is settled when it is loaded."""
        if not (job.out / "model.bin").exists():
            convert_ctranslate2(job.source, job.out, job.precision)

    def load(
        self, folder: Path, facts: Mapping[str, Any], *, threads: int, seed: int | None
    ) -> TextGenerator:
        """A Translator or Generator of CTranslate2."""
        from distill_deploy.backend_ctranslate2 import CTranslate2Generator

        return CTranslate2Generator(folder, facts, threads=threads, seed=seed)


def convert_ctranslate2(source: Source, out: Path, precision: str) -> None:
    """Write CTranslate2's model.bin, config.json and vocabulary.

    Raises:
        ExportError: CTranslate2's converter cannot read it.
        MissingExtraError: ctranslate2 is not installed.
    """
    try:
        from ctranslate2.converters import transformers as converters
    except ImportError as error:
        raise MissingExtraError(
            "this export needs ctranslate2: pip install 'distill-deploy[export]'", extra="export"
        ) from error
    import torch

    model = source.model()
    name = type(model.config).__name__
    loader = _marian_loader() if name == "MarianConfig" else converters._MODEL_LOADERS.get(name)
    _adapt(source, model)
    with torch.no_grad():
        try:
            spec = cast("Any", loader)(model, source.tokenizer)
        except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
            raise ExportError(
                f"{source.path}: CTranslate2's converter cannot read this {source.model_type} "
                f"({type(error).__name__}: {error})",
                field="folder",
                found=source.model_type,
            ) from error
        _correct(source, model, spec)
        for name in ("unk_token", "bos_token", "eos_token"):  # CTranslate2 reads no null here
            if getattr(spec.config, name, "") is None:
                setattr(spec.config, name, source.tokenizer.unk_token or "")
        spec.validate()
        spec.optimize(quantization={"fp32": None, "fp16": "float16", "int8": "int8"}[precision])
        spec.save(str(out))


def _adapt(source: Source, model: PreTrainedModel) -> None:
    """Put into a configuration what CTranslate2's loaders read there and transformers 5 dropped."""
    config: Any = model.config
    encoder: Any = getattr(getattr(model, "model", None), "encoder", None)
    if encoder is not None:  # BART and those built as it is
        config.normalize_before = hasattr(encoder, "layer_norm")
        config.normalize_embedding = hasattr(encoder, "layernorm_embedding")
    if source.model_type in (
        "t5",
        "mt5",
        "umt5",
    ):  # the loader scales the head where embeddings are tied to it
        config.tie_word_embeddings = getattr(config, "scale_decoder_outputs", False)


def _correct(source: Source, model: PreTrainedModel, spec: Any) -> None:
    """Let a seq2seq model start as transformers does, and count positions as M2M100 does.

    CTranslate2's loader of M2M100 takes the padding token for the second of the vocabulary: positions begin
    after that token's number (``create_position_ids_from_input_ids`` of transformers).
    """
    start = source.facts["decoder_start_token_id"]
    if source.task != "seq2seq" or start is None:
        return
    spec.config.decoder_start_token = source.tokenizer.convert_ids_to_tokens(start)
    if source.model_type != "m2m_100":
        return
    for half, module in ((spec.encoder, model.model.encoder), (spec.decoder, model.model.decoder)):
        table, first = module.embed_positions, module.embed_positions.padding_idx + 1
        rows = table.get_embedding(first + model.config.max_position_embeddings, table.embedding_dim)
        half.position_encodings.encodings = rows[first:]


def _marian_loader() -> Callable[..., object]:
    """CTranslate2's own Marian loader drops ``<pad>`` and starts from a zero embedding; training moves that row.

    So this one keeps the row, starts from it as transformers does, and the runtime suppresses the token.
    """  # noqa: E501
    from ctranslate2.converters.transformers import BartLoader

    return cast("Callable[..., object]", BartLoader())
