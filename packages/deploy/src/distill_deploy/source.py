"""The saved model that is exported, and the files about it that its runtime reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from distill_deploy.errors import ExportError, MissingExtraError
from distill_deploy.facts import RUNTIME_FILE
from distill_deploy.fast_tokenizers import fast_tokenizer
from distill_deploy.tokens import CHAT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import (
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        PreTrainedTokenizerFast,
    )

    from distill_deploy.facts import Task

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
    """The saved model that is exported.

    Attributes:
        path: The folder of the model.
        task: Its task: "causal", "seq2seq" or "masked".
        config: Its configuration, as transformers reads it.
        tokenizer: Its tokenizer, which is a fast one.
        facts: What running needs beside weights and tokenizer: special ids, generation defaults.
        slow: The tokenizer that ``tokenizer`` was made of, where the saved one was not fast.
    """

    path: Path
    task: Task
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerFast
    facts: Mapping[str, Any]
    slow: PreTrainedTokenizerBase | None = None

    @property
    def model_type(self) -> str:
        """The architecture, as transformers names it: "marian", "llama", ..."""
        return str(self.config.model_type)

    def model(self) -> PreTrainedModel:
        """A fresh float32 copy in evaluation mode; converters change the one they are given.

        Raises:
            ExportError: The folder lacks weights that the task needs, which would otherwise be random.
        """
        import torch
        import transformers

        loader = getattr(transformers, _AUTO_CLASSES[self.task])
        try:
            model, loading = loader.from_pretrained(
                self.path, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        except ValueError as error:  # transformers lists every class that it has, a line each
            if not str(error).startswith("Unrecognized configuration class"):
                raise
            raise ExportError(
                f"{self.path} is a {self.model_type} model, which transformers does not load as a "
                f"{self.task} model; name another task",
                field="task",
                found=self.task,
            ) from error
        missing = sorted(loading["missing_keys"])
        if missing:
            raise ExportError(
                f"{self.path} lacks {len(missing)} weights that a {self.task} model needs "
                f"({missing[0]}, ...), so it is another kind of model; name its task, or "
                "train it for this one",
                field="task",
                found=self.task,
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
            f"{folder} holds an adapter; merge it first: python -m distill_adapters merge {folder} MERGED",
            field="folder",
            found=str(folder),
        )
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise ExportError(
            f"{folder} has no config.json, so it is not a saved model", field="folder", found=str(folder)
        ) from error
    try:
        from transformers import AutoConfig, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(
            "exporting needs torch and transformers: pip install 'distill-deploy[export]'", extra="export"
        ) from error
    slow: Any = None
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        slow, tokenizer = tokenizer, fast_tokenizer(tokenizer)
    if tokenizer is None:
        raise ExportError(
            f"{folder} has no fast tokenizer (tokenizer.json), which the runtime reads, and none can be made",
            field="folder",
            found=type(slow).__name__,
        )
    read, chosen = AutoConfig.from_pretrained(folder), task or _task_of(config)
    return Source(folder, chosen, read, tokenizer, _facts(folder, chosen, read, tokenizer), slow)


def _task_of(config: dict[str, object]) -> Task:
    architectures = " ".join(map(str, cast("list[str]", config.get("architectures") or [])))
    model_type = str(config.get("model_type"))
    if "MaskedLM" in architectures or (not architectures and model_type in _MASKED):
        return "masked"
    if model_type in _SEQ2SEQ or config.get("is_encoder_decoder"):
        return "seq2seq"
    return "causal"


def _facts(
    folder: Path, task: Task, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast
) -> Mapping[str, Any]:
    """What running needs beside weights and tokenizer: special ids, and the model's generation defaults."""
    from transformers import GenerationConfig

    if (folder / "generation_config.json").exists():
        generation = GenerationConfig.from_pretrained(folder)
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
    if task == "seq2seq":
        suppressed += [pad] if pad is not None and pad not in ends else []
        least = least or max((pick("min_length") or 0) - 1, 0)  # the start token counts there
    return {
        "task": task,
        "model_type": str(config.model_type),
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


def write_runtime_files(source: Source, out: Path, facts: Mapping[str, object]) -> None:
    """Write tokenizer.json, the chat template and runtime.json: all that running needs beside the weights."""
    source.tokenizer.backend_tokenizer.save(str(out / "tokenizer.json"))
    if isinstance(source.tokenizer.chat_template, str):
        (out / CHAT_TEMPLATE).write_text(source.tokenizer.chat_template, encoding="utf-8")
    text = json.dumps({**facts, **source.facts}, indent=1, ensure_ascii=False)
    (out / RUNTIME_FILE).write_text(text + "\n", encoding="utf-8")
