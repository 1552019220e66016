"""The table of model types in distill-hwdetect is that of the installed transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

import model_types
from distill_hwdetect import ModelConfigError, task_of
from distill_hwdetect import model_types as table


def test_the_table_is_what_the_tool_writes() -> None:
    """``python tools/model_types.py`` brings it up to date."""
    assert Path(str(table.__file__)).read_text(encoding="utf-8") == model_types.render()


def test_every_language_model_of_transformers_has_its_task() -> None:
    """By its class, and by its type alone; what serves several tasks is told by the class."""
    from transformers.models.auto import modeling_auto as auto

    mappings = {
        "seq2seq": dict(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        "masked": dict(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        "causal": dict(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    }
    for mapping in mappings.values():
        for name, cls in mapping.items():
            tasks = {task for task, classes in mappings.items() if cls in classes.values()}
            assert task_of({"model_type": name, "architectures": [cls]}) in tasks
            assert task_of({"model_type": name}) in {
                task for task, types in mappings.items() if name in types
            }


def test_no_other_head_is_taken_for_a_language_model() -> None:
    """Classifiers, taggers and the like have none of the three tasks."""
    from transformers.models.auto import modeling_auto as auto

    heads = (
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
        auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES,
    )
    for name, cls in ((name, cls) for mapping in heads for name, cls in mapping.items()):
        with_decoder = {"model_type": name, "architectures": [cls], "is_encoder_decoder": True}
        for content in (with_decoder, {**with_decoder, "is_encoder_decoder": False}):
            with pytest.raises(ModelConfigError):
                task_of(content)
