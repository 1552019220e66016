"""A copy of a saved folder that the older transformers of Optimum's releases read as it was meant."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from distill_deploy.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def write_downgraded(folder: Path, out: Path) -> Path:
    """Write ``folder`` for transformers 4.57; the weights are linked, not copied.

    Two things are silently lost there: a tokenizer class that it does not know, and the ``rope_theta``
    that transformers 5 keeps within ``rope_parameters``.

    Raises:
        ExportError: Its rotary embedding differs from layer to layer, which transformers 4 cannot express.
    """
    out.mkdir()
    for path in folder.iterdir():
        if path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json"):
            try:
                (out / path.name).symlink_to(path.resolve())
            except OSError:  # Windows asks for a privilege
                shutil.copyfile(path, out / path.name)
        elif path.name in ("generation_config.json", "tokenizer.json"):
            shutil.copyfile(path, out / path.name)
    _write(out / "config.json", downgraded_config(json.loads((folder / "config.json").read_bytes())))
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.exists():
        _write(out / "tokenizer_config.json", downgraded_tokenizer(json.loads(tokenizer.read_bytes())))
    return out


def downgraded_config(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with ``rope_theta`` and ``rope_scaling`` where transformers 4 looks for them."""
    rope = dict(config.get("rope_parameters") or {})
    if not rope:
        return config
    if any(isinstance(value, dict) for value in rope.values()):
        raise ExportError(
            f"the rotary embedding of this {config.get('model_type')} differs from layer to layer "
            f"({', '.join(rope)}), which the transformers of Optimum's releases cannot read; "
            "export it with exporter='own'",
            field="exporter",
            found="optimum",
            allowed=("own",),
            suggestion="own",
        )
    written = {name: value for name, value in config.items() if name != "rope_parameters"}
    if "partial_rotary_factor" in rope:
        written["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if "rope_theta" in rope:
        written["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        written["rope_scaling"] = rope
    return written


def downgraded_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a tokenizer that is all in tokenizer.json, of a class that every version knows."""
    kept = {name: config[name] for name in (*_SPECIAL, "model_max_length") if config.get(name) is not None}
    return {**kept, "tokenizer_class": "PreTrainedTokenizerFast"}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
