"""From a verified transformers folder to a folder that runs without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from distill_deploy.errors import ExportError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Task = Literal["causal", "seq2seq", "masked"]
RUNTIME_FILE = "runtime.json"
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

    def model(self) -> PreTrainedModel:
        """A fresh float32 copy in evaluation mode; converters change the one they are given."""
        import torch
        import transformers

        loader = getattr(transformers, _AUTO_CLASSES[self.task])
        model = loader.from_pretrained(self.path, dtype=torch.float32, use_safetensors=True)
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
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ExportError(f"{folder} has no fast tokenizer (tokenizer.json), which the runtime reads")
    model_type = str(config.get("model_type"))
    return Source(folder, task or _task_of(config), model_type, cast("PreTrainedTokenizerFast", tokenizer))


def _task_of(config: dict[str, object]) -> Task:
    architectures = " ".join(map(str, cast("list[str]", config.get("architectures") or [])))
    model_type = str(config.get("model_type"))
    if "MaskedLM" in architectures or (not architectures and model_type in _MASKED):
        return "masked"
    if model_type in _SEQ2SEQ or config.get("is_encoder_decoder"):
        return "seq2seq"
    return "causal"


def write_runtime_files(source: Source, model: PreTrainedModel, out: Path, facts: dict[str, object]) -> None:
    """Write tokenizer.json, the chat template and runtime.json: all that running needs beside the weights."""
    tokenizer, config, generation = source.tokenizer, model.config, getattr(model, "generation_config", None)
    tokenizer.backend_tokenizer.save(str(out / "tokenizer.json"))
    if isinstance(tokenizer.chat_template, str):
        (out / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")

    def pick(name: str) -> object:
        value = getattr(generation, name, None) if generation is not None else None
        return value if value is not None else getattr(config, name, None)

    eos = pick("eos_token_id")
    eos = tokenizer.eos_token_id if eos is None else eos
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else pick("pad_token_id")
    ends = [] if eos is None else eos if isinstance(eos, list) else [eos]
    facts = {
        **facts,
        "task": source.task,
        "model_type": source.model_type,
        "pad_token_id": pad,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_ids": ends,
        "mask_token_id": tokenizer.mask_token_id,
        "decoder_start_token_id": pick("decoder_start_token_id"),
        "forced_bos_token_id": pick("forced_bos_token_id"),
        "suppress_token_ids": [pad]
        if source.task == "seq2seq" and pad is not None and pad not in ends
        else [],
        "repetition_penalty": pick("repetition_penalty") or 1.0,
    }
    (out / RUNTIME_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def convert_ctranslate2(source: Source, out: Path, precision: str) -> PreTrainedModel:
    """Write CTranslate2's model.bin, config.json and vocabulary. Returns the model it was made from, consumed.

    Raises:
        ExportError: Its converter does not know the architecture.
        MissingExtraError: ctranslate2 is not installed.
    """  # noqa: E501
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
        spec.optimize(quantization={"fp32": None, "int8": "int8"}[precision])
        spec.save(str(out))
    return model


def _marian_loader() -> Callable[..., object]:
    """CTranslate2's own Marian loader drops ``<pad>`` and starts from a zero embedding; training moves that row.

    So this one keeps the row, starts from it as transformers does, and the runtime suppresses the token.
    """  # noqa: E501
    from ctranslate2.converters.transformers import BartLoader

    return cast("Callable[..., object]", BartLoader())


def convert_onnx(source: Source, out: Path, precision: str) -> PreTrainedModel:
    """Write model.onnx with inputs ``(batch, seq)`` of any size and the output ``logits``."""
    try:
        import onnx_ir
        from transformers.exporters import (  # type: ignore[attr-defined]  # its stub re-exports neither
            OnnxConfig,
            OnnxExporter,
        )
    except ImportError as error:
        raise MissingExtraError("this export needs onnx: pip install 'distill-deploy[export]'") from error
    import tempfile
    import warnings

    model = source.model()
    sample = dict(source.tokenizer(["a b c", "a"], padding=True, return_tensors="pt"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own talk about versions it was tested with
        exported = cast("Any", OnnxExporter)().export(model, sample, config=OnnxConfig(dynamic=True))
    target = out / "model.onnx"
    if precision == "fp32":
        onnx_ir.save(exported.program, str(target))
        return model
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch, "model.onnx")
        onnx_ir.save(exported.program, str(full))
        quantize_dynamic(full, target, weight_type=QuantType.QInt8)
    return model
