"""A live teacher answers without gradients; two tokenizers are one vocabulary or they are refused."""

from typing import Any

import pytest
import torch

from distill_kd import LiveTeacher, Teacher, VocabularyError, check_vocabularies


def test_a_live_teacher_is_frozen_and_in_evaluation_mode(make_model: Any) -> None:
    """Nothing it returns has a gradient, and ``train()`` called on it is undone."""
    model = make_model("Bert").train()
    teacher = LiveTeacher(model)
    assert isinstance(teacher, Teacher)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.train()
    ids = torch.tensor([[3, 4, 5]])
    target = teacher.target({"input_ids": ids, "labels": ids, "row_id": torch.tensor([0])})
    assert not model.training
    assert not target.log_probs.requires_grad
    assert target.log_probs.is_inference()
    assert target.log_probs.shape == (1, 3, 24)


def test_a_teacher_reads_neither_labels_nor_row_ids(make_model: Any) -> None:
    """With labels it would compute a loss that nobody asked for."""
    model = make_model("Bert")
    names: list[str] = []
    model.register_forward_pre_hook(lambda _, args, kwargs: names.extend(kwargs), with_kwargs=True)
    ids = torch.tensor([[3, 4, 5]])
    LiveTeacher(model).target({"input_ids": ids, "labels": ids, "row_id": torch.tensor([0])})
    assert "input_ids" in names
    assert not {"labels", "row_id"} & set(names)


def test_an_encoder_decoder_without_decoder_inputs_is_refused(make_model: Any) -> None:
    """It would otherwise invent its own."""
    ids = torch.tensor([[3, 4, 1]])
    with pytest.raises(KeyError, match=r"distill_adapters\.decoder_inputs"):
        LiveTeacher(make_model("Bart")).target({"input_ids": ids, "labels": ids})


def test_equal_maps_are_one_vocabulary(make_tokenizer: Any) -> None:
    """Two tokenizers made alike share all tokens, and nothing needs saying."""
    shared = check_vocabularies(make_tokenizer(), make_tokenizer(), student_size=24, teacher_size=24)
    assert (shared.tokens, shared.message) == (24, None)
    assert check_vocabularies(make_tokenizer(), make_tokenizer()).tokens == 24


def test_padding_of_a_model_is_named(make_tokenizer: Any) -> None:
    """Either or both may be padded; the message says which."""
    shared = check_vocabularies(make_tokenizer(), make_tokenizer(), student_size=30, teacher_size=32)
    assert shared.tokens == 24
    assert shared.message is not None
    assert "student model scores 30 ids and the teacher model scores 32 ids" in shared.message


def test_a_model_smaller_than_its_tokenizer_is_refused(make_tokenizer: Any) -> None:
    """Some token would have no score."""
    with pytest.raises(VocabularyError, match="the teacher model scores 20 tokens"):
        check_vocabularies(make_tokenizer(), make_tokenizer(), teacher_size=20)


def test_same_size_but_another_order_is_refused(make_tokenizer: Any) -> None:
    """The first tokens that differ are shown with both ids."""
    words = [f"w{index}" for index in range(21)]
    swapped = [words[1], words[0], *words[2:]]
    with pytest.raises(VocabularyError, match=r"same size.*2 tokens: 'w0' is 3 to the student and 4"):
        check_vocabularies(make_tokenizer(words), make_tokenizer(swapped))


def test_an_added_token_is_refused(make_tokenizer: Any) -> None:
    """One more token is another map, even at the end."""
    more = make_tokenizer()
    more.add_tokens(["<extra>"])
    with pytest.raises(VocabularyError, match=r"24 and 25 tokens.*'<extra>' is absent to the student and 24"):
        check_vocabularies(make_tokenizer(), more)
