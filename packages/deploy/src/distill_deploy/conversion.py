"""From a verified transformers folder to a folder that runs without torch."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from distill_deploy.errors import ExportError, MissingExtraError
from distill_deploy.facts import RUNTIME_FILE, Task
from distill_deploy.sentencepieces import fast_tokenizer
from distill_deploy.tokens import CHAT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

_SEQ2SEQ = frozenset({"bart", "m2m_100", "marian", "mbart", "mt5", "pegasus", "t5", "umt5"})
_MASKED = frozenset(
    {"albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "roberta"}
)
_AUTO_CLASSES = {
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "masked": "AutoModelForMaskedLM",
}


@dataclass(frozen=True)
class Source:
    """The folder to export: where it lies, its task, its architecture, its tokenizer."""

    path: Path
    task: Task
    model_type: str
    tokenizer: PreTrainedTokenizerFast
    slow: PreTrainedTokenizerBase | None = None  # what the tokenizer was made of, where it was not fast

    def model(self) -> PreTrainedModel:
        """A fresh float32 copy in evaluation mode; converters change the one they are given.

        Raises:
            ExportError: The folder lacks weights that the task needs, which would otherwise be random.
        """
        import torch
        import transformers

        loader = getattr(transformers, _AUTO_CLASSES[self.task])
        model, loading = loader.from_pretrained(
            self.path, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        missing = sorted(loading["missing_keys"])
        if missing:
            raise ExportError(
                f"{self.path} lacks {len(missing)} weights that a {self.task} model needs "
                f"({missing[0]}, ...), so it is another kind of model; name its task or train it for this one"
            )
        return cast("PreTrainedModel", model.eval())


def open_source(folder: Path, task: Task | None) -> Source:
    """Read what is to be exported.

    Raises:
        ExportError: It is an unmerged adapter, has no configuration, or has no fast tokenizer.
        MissingExtraError: transformers is not installed.
    """
    if (folder / "adapter_config.json").exists():
        raise ExportError(
            f"{folder} holds an adapter; merge it first: python -m distill_adapters merge {folder} MERGED"
        )
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise ExportError(f"{folder} has no config.json, so it is no saved model") from error
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(
            "exporting needs torch and transformers: pip install 'distill-deploy[export]'"
        ) from error
    slow: Any = None
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        slow, tokenizer = tokenizer, fast_tokenizer(tokenizer)
    if tokenizer is None:
        raise ExportError(
            f"{folder} has no fast tokenizer (tokenizer.json), which the runtime reads, and none can be made"
        )
    model_type = str(config.get("model_type"))
    chosen = task or _task_of(config)
    return Source(folder, chosen, model_type, cast("PreTrainedTokenizerFast", tokenizer), slow)


def _task_of(config: dict[str, object]) -> Task:
    architectures = " ".join(map(str, cast("list[str]", config.get("architectures") or [])))
    model_type = str(config.get("model_type"))
    if "MaskedLM" in architectures or (not architectures and model_type in _MASKED):
        return "masked"
    if model_type in _SEQ2SEQ or config.get("is_encoder_decoder"):
        return "seq2seq"
    return "causal"


def runtime_facts(source: Source) -> dict[str, object]:
    """What running needs beside weights and tokenizer: special ids, and the model's generation defaults."""
    from transformers import AutoConfig, GenerationConfig

    config, tokenizer = AutoConfig.from_pretrained(source.path), source.tokenizer
    if (source.path / "generation_config.json").exists():
        generation = GenerationConfig.from_pretrained(source.path)
    else:
        generation = GenerationConfig.from_model_config(config)

    def pick(name: str) -> Any:
        value = getattr(generation, name, None)
        return value if value is not None else getattr(config, name, None)

    eos = pick("eos_token_id")
    eos = tokenizer.eos_token_id if eos is None else eos
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else pick("pad_token_id")
    ends = [] if eos is None else eos if isinstance(eos, list) else [eos]
    suppressed = [
        *(pick("suppress_tokens") or []),
        *(w[0] for w in pick("bad_words_ids") or [] if len(w) == 1),
    ]
    least = pick("min_new_tokens") or 0
    if source.task == "seq2seq":
        suppressed += [pad] if pad is not None and pad not in ends else []
        least = least or max((pick("min_length") or 0) - 1, 0)  # the start token counts there
    return {
        "task": source.task,
        "model_type": source.model_type,
        "pad_token_id": pad,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_ids": ends,
        "mask_token_id": tokenizer.mask_token_id,
        "decoder_start_token_id": pick("decoder_start_token_id"),
        "forced_bos_token_id": pick("forced_bos_token_id"),
        "suppress_token_ids": sorted(set(suppressed)),
        "special_tokens": {
            name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)
        },
        "generation": {
            "do_sample": bool(pick("do_sample")),
            "early_stopping": pick("early_stopping") or False,
            "length_penalty": _number(pick("length_penalty"), 1.0),
            "min_new_tokens": least,
            "no_repeat_ngram_size": pick("no_repeat_ngram_size") or 0,
            "num_beams": pick("num_beams") or 1,
            "repetition_penalty": _number(pick("repetition_penalty"), 1.0),
            "temperature": _number(pick("temperature"), 1.0),
            "top_k": pick("top_k") or 0,
            "top_p": _number(pick("top_p"), 1.0),
        },
    }


def _number(value: float | None, default: float) -> float:
    return default if value is None else float(value)


def write_runtime_files(source: Source, out: Path, facts: dict[str, object]) -> None:
    """Write tokenizer.json, the chat template and runtime.json: all that running needs beside the weights."""
    source.tokenizer.backend_tokenizer.save(str(out / "tokenizer.json"))
    if isinstance(source.tokenizer.chat_template, str):
        (out / CHAT_TEMPLATE).write_text(source.tokenizer.chat_template, encoding="utf-8")
    text = json.dumps({**facts, **runtime_facts(source)}, indent=1, ensure_ascii=False)
    (out / RUNTIME_FILE).write_text(text + "\n", encoding="utf-8")


def convert_ctranslate2(source: Source, out: Path, precision: str) -> None:
    """Write CTranslate2's model.bin, config.json and vocabulary.

    Raises:
        ExportError: Its converter does not know the architecture.
        MissingExtraError: ctranslate2 is not installed.
    """
    try:
        from ctranslate2.converters import transformers as converters
    except ImportError as error:
        raise MissingExtraError(
            "this export needs ctranslate2: pip install 'distill-deploy[export]'"
        ) from error
    import torch

    model = source.model()
    config = model.config
    name = type(config).__name__
    loader = _marian_loader() if name == "MarianConfig" else converters._MODEL_LOADERS.get(name)
    if loader is None:
        known = ", ".join(sorted(key.removesuffix("Config") for key in converters._MODEL_LOADERS))
        raise ExportError(f"{name} cannot be exported to ctranslate2; what can: {known}")
    if not hasattr(config, "normalize_before"):  # transformers 5 dropped both, BART's loader reads them
        config.normalize_before = False
        config.normalize_embedding = name != "MarianConfig"
    with torch.no_grad():
        spec = cast("Any", loader)(model, source.tokenizer)
        for name in ("unk_token", "bos_token", "eos_token"):  # CTranslate2 reads no null here
            if getattr(spec.config, name, "") is None:
                setattr(spec.config, name, source.tokenizer.unk_token or "")
        spec.validate()
        spec.optimize(quantization={"fp32": None, "fp16": "float16", "int8": "int8"}[precision])
        spec.save(str(out))


def _marian_loader() -> Callable[..., object]:
    """CTranslate2's own Marian loader drops ``<pad>`` and starts from a zero embedding; training moves that row.

    So this one keeps the row, starts from it as transformers does, and the runtime suppresses the token.
    """  # noqa: E501
    from ctranslate2.converters.transformers import BartLoader

    return cast("Callable[..., object]", BartLoader())


def convert_onnx(source: Source, out: Path) -> None:
    """Write model.onnx in float32, with inputs ``(batch, seq)`` of any size and the output ``logits``.

    int8 is made of that file afterwards, by :func:`distill_deploy.onnx_weights.quantize_weights`.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
    """
    try:
        import onnx_ir
        from transformers.exporters import (  # type: ignore[attr-defined]  # its stub re-exports neither
            OnnxConfig,
            OnnxExporter,
        )
    except ImportError as error:
        raise MissingExtraError("this export needs onnx: pip install 'distill-deploy[export]'") from error
    from distill_deploy.onnx_weights import share_transposed

    sample = dict(source.tokenizer(["a b c", "a"], padding=True, return_tensors="pt"))
    with _quiet():
        exporter = cast("Any", OnnxExporter)()
        exported = exporter.export(source.model(), sample, config=OnnxConfig(dynamic=True))
        onnx_ir.save(exported.program, str(out / "model.onnx"))
        share_transposed(out / "model.onnx")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own talk: warnings, logging, and what torch.onnx prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
