"""Optimum's exporters in a process of their own: ``python optimum_worker.py REQUEST.json``.

It may run in another environment than this package's and imports nothing of it. What it reads is checked
first against what the request says the tokenizer and the rotary embedding are. Its answer is facts.json in
the folder of the export: versions, and faults if there are any.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ONNX_TASKS = {"seq2seq": "text2text-generation-with-past", "masked": "fill-mask"}


def main() -> None:
    """Check, export, answer."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(request["out"])
    packages = ("transformers", "torch", "optimum", request["package"])
    facts: dict[str, object] = {"versions": {name: version(name) for name in packages}}
    faults = lost(request)
    if not faults:
        try:
            (openvino if request["format"] == "openvino" else onnx)(request)
        except Exception as error:  # noqa: BLE001 - the answer reports it, whatever it is
            faults = [f"{type(error).__name__}: {error}", supported(request)]
    (out / "facts.json").write_text(json.dumps({**facts, "faults": faults}), encoding="utf-8")


def lost(request: dict[str, Any]) -> list[str]:
    """What this transformers reads differently from the one that saved the model."""
    from transformers import AutoConfig, AutoTokenizer

    faults = []
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(request["folder"])
        if [list(tokenizer(text).input_ids) for text in request["texts"]] != request["ids"]:
            faults.append("its transformers makes other ids of a text than this environment's")
    except (ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        faults.append(f"its transformers cannot read the tokenizer ({error})")
    theta = getattr(AutoConfig.from_pretrained(request["folder"]), "rope_theta", None)
    if request["rope_theta"] is not None and theta != request["rope_theta"]:
        faults.append(f"its transformers reads rope_theta = {theta}, the model says {request['rope_theta']}")
    return faults


def onnx(request: dict[str, Any]) -> None:
    """By optimum-onnx, in float32."""
    from optimum.exporters.onnx import main_export

    main_export(
        request["folder"],
        request["out"],
        task=ONNX_TASKS[request["task"]],
        dtype="fp32",
        do_validation=False,  # the certificate compares with the model of the environment that saved it
        local_files_only=True,
    )


def openvino(request: dict[str, Any]) -> None:
    """By optimum-intel; int8 rounds the weights alone."""
    from optimum.intel import OVModelForCausalLM, OVModelForMaskedLM, OVWeightQuantizationConfig

    loader: Any = OVModelForCausalLM if request["task"] == "causal" else OVModelForMaskedLM
    rounded = {"quantization_config": OVWeightQuantizationConfig(bits=8)}
    options = rounded if request["precision"] == "int8" else {"load_in_8bit": False}
    model = loader.from_pretrained(request["folder"], export=True, compile=False, **options)
    if request["precision"] == "fp16":
        model.half()
    model.save_pretrained(request["out"])


def supported(request: dict[str, Any]) -> str:
    """The architectures that this exporter has for the task."""
    from optimum.exporters.tasks import TasksManager

    task = {"causal": "text-generation"}.get(request["task"]) or ONNX_TASKS[request["task"]]
    known = TasksManager.get_supported_model_type_for_task(task.removesuffix("-with-past"), request["format"])
    return f"what {request['package']} exports for {request['task']}: {', '.join(sorted(known))}"


if __name__ == "__main__":
    main()
