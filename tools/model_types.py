"""Write the table of model types and tasks that distill-hwdetect reads, from the installed transformers.

``python tools/model_types.py > packages/hwdetect/src/distill_hwdetect/model_types.py``. Asking transformers
imports torch, which takes seconds of processor time that reading a config.json does not have.
"""

from __future__ import annotations

import textwrap

HEAD = '''"""The task of each model type of transformers {version}; tools/model_types.py writes this file."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

# Classes whose task their name does not say.
CLASS_TASKS: Mapping[str, Literal["causal", "seq2seq", "masked"]] = {{
{classes}
}}
# Each model type once: one that serves several tasks stands under seq2seq before masked before causal.
TYPE_TASKS: Mapping[Literal["causal", "seq2seq", "masked"], str] = {{
{types}
}}
'''
NAMED = {"masked": ("ForMaskedLM",), "causal": ("ForCausalLM", "LMHeadModel")}
SEQ2SEQ = ("ForConditionalGeneration", "ForSeq2SeqLM", "MTModel", "EncoderDecoderModel", "ForTextToText")


def render() -> str:
    """Return the module's text."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    mappings = {
        "seq2seq": dict(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        "masked": dict(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        "causal": dict(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    }
    suffixes = {**NAMED, "seq2seq": SEQ2SEQ}
    classes: dict[str, str] = {}
    types: dict[str, list[str]] = {task: [] for task in mappings}
    seen: set[str] = set()
    for task, mapping in mappings.items():
        for name, cls in sorted(mapping.items()):
            told = next((one for one, ends in suffixes.items() if cls.endswith(ends)), None)
            if told != task and cls not in mappings["seq2seq"].values():
                classes.setdefault(cls, task)
            if name not in seen:
                types[task].append(name)
        seen |= mapping.keys()
    return HEAD.format(
        version=transformers.__version__,
        classes="\n".join(f'    "{cls}": "{task}",' for cls, task in sorted(classes.items())),
        types="\n".join(f'    "{task}": """\n{_wrapped(types[task])}\n    """,' for task in sorted(types)),
    )


def _wrapped(names: list[str]) -> str:
    return textwrap.fill(
        " ".join(names),
        width=108,
        initial_indent="        ",
        subsequent_indent="        ",
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    print(render(), end="")
