"""A head applied separately gives the model's own logits, or is refused and left whole."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from distill_kd import (
    DenseTarget,
    DistillationTrainer,
    HeadError,
    HiddenTarget,
    LiveTeacher,
    Objective,
    chunked_divergence,
    forward_kl,
    hidden_and_head,
)
from distill_kd.lm_head import check_head, head_of

MODELS = {
    **dict.fromkeys(["T5", "Marian", "Bart", "MBart", "Pegasus"], "seq2seq"),
    **dict.fromkeys(["Bert", "Roberta", "DistilBert", "ModernBert"], "masked"),
    **dict.fromkeys(["GPT2", "Llama", "Qwen3", "Gemma2", "Cohere", "Granite"], "causal"),
}


def inputs_of(task: str) -> dict[str, Tensor]:
    """Two rows of five tokens, for all inputs that the task has."""
    ids = torch.arange(3, 13).reshape(2, 5)
    made = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {**made, "decoder_input_ids": ids.flip(1)} if task == "seq2seq" else made


@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_and_head_are_the_models_logits(name: str, make_model: Any) -> None:
    """Bias, scale, soft cap, tied weights and transforms included; and so are the gradients."""
    model, inputs = make_model(name), inputs_of(MODELS[name])
    if getattr(model, "final_logits_bias", None) is not None:
        nn.init.normal_(model.final_logits_bias)
    full = model(**inputs).logits
    hidden, head = hidden_and_head(model, inputs)
    torch.testing.assert_close(head(hidden), full, rtol=1e-5, atol=1e-5)
    teacher = torch.randn(full.shape, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(full.shape[:2], generator=torch.Generator().manual_seed(2)) < 0.7
    forward_kl(full, teacher, mask=mask).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    expected = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    loss = chunked_divergence(hidden, head, DenseTarget(teacher), mask=mask, budget_bytes=500)
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    found = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"target_modules": ["lm_head", "q_proj"]}, {"modules_to_save": ["lm_head"]}]
)
def test_an_adapted_head_learns_as_in_the_whole_model(options: dict[str, Any], make_model: Any) -> None:
    """LoRA on the head, or a copy of it that is trained: logits and gradients are those of the full pass."""
    torch.manual_seed(0)
    settings = LoraConfig(r=2, init_lora_weights=False, **{"target_modules": ["q_proj"], **options})
    model = get_peft_model(make_model("Llama"), settings)
    inputs = inputs_of("causal")
    full = model(**inputs).logits
    hidden, head = hidden_and_head(model, inputs)
    teacher, mask = torch.zeros_like(full), torch.ones(2, 5, dtype=torch.bool)
    values = [value for value in model.parameters() if value.requires_grad]
    expected = torch.autograd.grad(forward_kl(full, teacher, mask=mask), values)
    loss = chunked_divergence(hidden, head, DenseTarget(teacher), mask=mask)
    for found, wanted in zip(torch.autograd.grad(loss, values), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert any("lm_head" in name for name, value in model.named_parameters() if value.requires_grad)


def test_a_dora_head_is_refused(make_model: Any) -> None:
    """It does not add to the weights, it rescales them."""
    model = get_peft_model(make_model("Llama"), LoraConfig(r=2, target_modules=["lm_head"], use_dora=True))
    with pytest.raises(HeadError, match="DoRA"):
        head_of(model)


def test_a_model_without_a_head_is_refused() -> None:
    """The message names what is missing."""
    with pytest.raises(HeadError, match="get_output_embeddings"):
        head_of(nn.Linear(2, 2))


def test_logits_that_are_changed_behind_the_head_are_noticed(
    make_model: Any, make_rows: Any, make_arguments: Any, collate: Any, caplog: Any
) -> None:
    """The check refuses, and the trainer takes the whole logits, with a warning and the right loss."""
    student, teacher = make_model("GPT2"), make_model("GPT2", seed=1)
    batch = collate(make_rows("causal"))
    options = {"objective": Objective("causal"), "args": make_arguments(), "data_collator": collate}
    plain = DistillationTrainer(student, teacher=LiveTeacher(teacher), **options)
    before = plain.compute_loss(student, batch)

    def halve(_: nn.Module, args: Any, output: Any) -> Any:
        output.logits = output.logits / 2
        return output

    student.register_forward_hook(lambda *args: halve(*args) if hasattr(args[2], "logits") else args[2])
    with pytest.raises(HeadError, match="something else is done"):
        check_head(student, head_of(student), batch)
    trainer = DistillationTrainer(student, teacher=LiveTeacher(teacher), **options)
    assert trainer.compute_loss(student, batch).item() != pytest.approx(before.item())
    assert "logits are made all at once" in caplog.text


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_int8_teacher_is_projected_by_its_own_head(make_model: Any) -> None:
    """Its quantized head has no weights to read, and is called on chunks instead."""
    quantize: Any = torch.ao.quantization.quantize_dynamic  # untyped in torch
    teacher = quantize(make_model("Llama"), {nn.Linear}, dtype=torch.qint8)
    inputs = inputs_of("causal")
    with torch.no_grad():
        expected = teacher(**inputs).logits
    target = LiveTeacher(teacher).target(inputs)
    assert isinstance(target, HiddenTarget)
    (rows,) = target.rows(torch.tensor([2, 7]))
    torch.testing.assert_close(rows, expected.flatten(0, 1)[[2, 7]], rtol=0.1, atol=0.1)


def test_forward_is_put_back(make_model: Any) -> None:
    """After the hidden states, and after an error, the model gives logits again."""
    model, inputs = make_model("T5"), inputs_of("seq2seq")
    hidden_and_head(model, inputs)
    with pytest.raises((AttributeError, TypeError)):
        hidden_and_head(model, {**inputs, "input_ids": "no tensor"})
    assert model(**inputs).logits.shape == (2, 5, 24)
