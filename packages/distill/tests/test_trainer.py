"""Every architecture starts at the loss it should and learns; the teacher stays what and where it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill_kd import DistillationTrainer, LiveTeacher, Objective, VocabularyError

ARCHITECTURES = {
    "T5": "seq2seq",
    "Marian": "seq2seq",
    "Bart": "seq2seq",
    "MBart": "seq2seq",
    "Pegasus": "seq2seq",
    "Bert": "masked",
    "Roberta": "masked",
    "ModernBert": "masked",
    "DistilBert": "masked",
    "GPT2": "causal",
    "Llama": "causal",
    "Qwen3": "causal",
}


def oracle(
    task: Any,
    student: Any,
    teacher: Any,
    batch: dict[str, Tensor],
    *,
    temperature: float,
) -> tuple[float, float]:
    """Cross-entropy and softened KL per token: unchunked, row by row without padding, all in float64."""
    ce, kd, tokens = 0.0, 0.0, 0
    for i in range(len(batch["labels"])):
        length = int(batch["attention_mask"][i].sum())
        ids, labels = batch["input_ids"][i : i + 1, :length], batch["labels"][i]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if task == "seq2seq":
            target = labels[labels != -100]
            # mBART's decoder begins with the last token, where its language stands.
            first = target[-1:] if student.config.model_type == "mbart" else torch.tensor([0])
            inputs["decoder_input_ids"] = torch.cat([first, target[:-1]])[None]
        with torch.no_grad():
            s, t = (model.double().eval()(**inputs).logits[0] for model in (student, teacher))
        if task == "causal":
            s, t, labels = s[:-1], t[:-1], labels[1:]
        for j, label in enumerate(labels.tolist()):
            if label == -100:
                continue
            ce -= float(s[j].log_softmax(0)[label])
            p, q = (t[j] / temperature).softmax(0), (s[j] / temperature).softmax(0)
            kd += temperature**2 * float((p * (p / q).log()).sum())
            tokens += 1
    student.float()
    teacher.float()
    return ce / tokens, kd / tokens


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_first_loss_is_the_oracles_and_it_halves(
    name: str, make_model: Any, make_rows: Any, make_arguments: Any, collate: Any
) -> None:
    """Loss and parts equal an unpadded float64 computation, and 30 steps on one batch halve the loss."""
    task: Any = ARCHITECTURES[name]
    student, teacher = make_model(name), make_model(name, seed=1)
    rows = make_rows(task)
    ce, kd = oracle(task, student, teacher, collate(rows), temperature=2.0)
    trainer = DistillationTrainer(
        student,
        teacher=LiveTeacher(teacher),
        objective=Objective(task, kd_weight=0.9, temperature=2.0),
        args=make_arguments(max_steps=30),
        train_dataset=rows,
        data_collator=collate,
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logs[0]["ce"] == pytest.approx(ce, rel=1e-5)
    assert logs[0]["kd"] == pytest.approx(kd, rel=1e-5)
    assert logs[0]["loss"] == pytest.approx(0.1 * ce + 0.9 * kd, rel=1e-5)
    assert logs[-1]["loss"] < logs[0]["loss"] / 2


@pytest.mark.parametrize("name", ["T5", "Bert", "GPT2"])
def test_accumulation_changes_nothing(
    name: str, make_model: Any, make_rows: Any, make_arguments: Any, collate: Any
) -> None:
    """Four micro-batches of unequal token counts train like one batch: losses, parts and weights."""
    task: Any = ARCHITECTURES[name]
    results = []
    for batch_size in (4, 1):
        trainer = DistillationTrainer(
            make_model(name),
            teacher=LiveTeacher(make_model(name, seed=1)),
            objective=Objective(task),
            args=make_arguments(
                max_steps=3,
                per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=4 // batch_size,
                optim="sgd",
            ),
            train_dataset=make_rows(task),
            data_collator=collate,
        )
        trainer.train()
        losses = [
            [entry[key] for key in ("loss", "ce", "kd")]
            for entry in trainer.state.log_history
            if "loss" in entry
        ]
        results.append((losses, trainer.model.state_dict()))
    (whole, weights), (pieces, other) = results
    assert len(whole) == 3
    torch.testing.assert_close(torch.tensor(pieces), torch.tensor(whole), rtol=1e-5, atol=1e-6)
    for key, value in weights.items():
        torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Marian", "Bert", "Llama"])
def test_evaluation_weighs_every_token_alike(
    name: str, make_model: Any, make_rows: Any, make_arguments: Any, collate: Any
) -> None:
    """Batches of one give the evaluation loss and parts of one batch of all."""
    task: Any = ARCHITECTURES[name]
    rows = make_rows(task)
    student, teacher = make_model(name), make_model(name, seed=1)
    ce, kd = oracle(task, student, teacher, collate(rows), temperature=1.0)
    for batch_size in (1, 3, 4):
        trainer = DistillationTrainer(
            student,
            teacher=LiveTeacher(teacher),
            objective=Objective(task),
            args=make_arguments(per_device_eval_batch_size=batch_size),
            eval_dataset=rows,
            data_collator=collate,
        )
        metrics = trainer.evaluate()
        assert metrics["eval_ce"] == pytest.approx(ce, rel=1e-5)
        assert metrics["eval_kd"] == pytest.approx(kd, rel=1e-5)
        assert metrics["eval_loss"] == pytest.approx((ce + kd) / 2, rel=1e-5)


def test_the_teacher_is_neither_trained_nor_saved(
    make_model: Any, make_rows: Any, make_arguments: Any, collate: Any, tmp_path: Path
) -> None:
    """Its weights stay bit for bit, it stays in evaluation mode, and a checkpoint holds the student alone."""
    student, teacher = make_model("T5"), make_model("T5", seed=1, num_layers=2)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    trainer = DistillationTrainer(
        student,
        teacher=LiveTeacher(teacher),
        objective=Objective("seq2seq"),
        args=make_arguments(save_strategy="steps", save_steps=1),
        train_dataset=make_rows("seq2seq"),
        data_collator=collate,
    )
    trainer.train()
    assert not teacher.training
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    saved = load_file(tmp_path / "run" / "checkpoint-1" / "model.safetensors")
    assert {"shared.weight"} <= set(saved) <= set(student.state_dict())


def test_seq2seq_teacher_and_student_read_the_same_decoder_inputs(
    make_model: Any, make_rows: Any, make_arguments: Any, collate: Any
) -> None:
    """The labels shifted right behind the start token, whether collator or trainer made them."""
    student, teacher = make_model("Marian"), make_model("Marian", seed=1)
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    for key, model in (("student", student), ("teacher", teacher)):
        model.register_forward_pre_hook(
            lambda _, args, kwargs, key=key: seen[key].append(kwargs["decoder_input_ids"].clone()),
            with_kwargs=True,
        )
    trainer = DistillationTrainer(
        student,
        teacher=LiveTeacher(teacher),
        objective=Objective("seq2seq"),
        args=make_arguments(),
        data_collator=collate,
    )
    batch = collate(make_rows("seq2seq"))
    loss = trainer.compute_loss(trainer.model, batch)
    made = student.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    assert made[:, 0].eq(0).all()
    assert torch.equal(seen["student"][-1], made)
    assert torch.equal(seen["teacher"][-1], made)
    given = trainer.compute_loss(trainer.model, {**batch, "decoder_input_ids": made})
    assert torch.equal(given, loss)


def test_a_teacher_of_another_architecture_is_given_what_it_understands(
    make_model: Any, make_rows: Any, make_arguments: Any, collate: Any
) -> None:
    """BERT teaches DistilBERT although only one of them knows ``token_type_ids``."""
    trainer = DistillationTrainer(
        make_model("DistilBert"),
        teacher=LiveTeacher(make_model("Bert")),
        objective=Objective("masked"),
        args=make_arguments(),
        data_collator=collate,
    )
    batch = collate(make_rows("masked"))
    plain = trainer.compute_loss(trainer.model, batch)
    segments = {**batch, "token_type_ids": torch.ones_like(batch["input_ids"])}
    assert not torch.equal(trainer.compute_loss(trainer.model, segments), plain)


def test_a_teacher_in_bfloat16_keeps_its_dtype(
    make_model: Any, make_rows: Any, make_arguments: Any, collate: Any
) -> None:
    """The loss is float32 all the same."""
    teacher = make_model("GPT2", seed=1).to(torch.bfloat16)
    trainer = DistillationTrainer(
        make_model("GPT2"),
        teacher=LiveTeacher(teacher),
        objective=Objective("causal"),
        args=make_arguments(),
        train_dataset=make_rows("causal"),
        data_collator=collate,
    )
    assert trainer.compute_loss(trainer.model, collate(make_rows("causal"))).dtype == torch.float32
    trainer.train()
    assert teacher.dtype == torch.bfloat16


def test_a_student_with_lora_learns(
    make_model: Any, make_rows: Any, make_arguments: Any, collate: Any
) -> None:
    """The adapter's weights move, the base's do not, and the loss falls."""
    from peft import LoraConfig, get_peft_model

    student = get_peft_model(
        make_model("Marian"), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "fc1"])
    )
    base = {key: value.clone() for key, value in student.state_dict().items() if "lora" not in key}
    trainer = DistillationTrainer(
        student,
        teacher=LiveTeacher(make_model("Marian", seed=1)),
        objective=Objective("seq2seq"),
        args=make_arguments(max_steps=10),
        train_dataset=make_rows("seq2seq"),
        data_collator=collate,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in base.items())


def test_a_same_size_vocabulary_of_another_tokenizer_is_refused(
    make_model: Any, make_tokenizer: Any, make_arguments: Any
) -> None:
    """Before the first step, and by name."""
    student_tokenizer, other = make_tokenizer(), make_tokenizer([f"v{index}" for index in range(21)])
    student_tokenizer.name_or_path, other.name_or_path = "students/words", "teachers/words"
    with pytest.raises(VocabularyError, match=r"students/words .* teachers/words .* same size.* 42 tokens"):
        DistillationTrainer(
            make_model("GPT2"),
            teacher=LiveTeacher(make_model("GPT2"), tokenizer=other),
            objective=Objective("causal"),
            args=make_arguments(),
            processing_class=student_tokenizer,
        )


def test_a_padded_teacher_is_trimmed_with_a_message(
    make_model: Any, make_tokenizer: Any, make_rows: Any, make_arguments: Any, collate: Any, caplog: Any
) -> None:
    """Training goes on over the tokens both have; without tokenizers unequal sizes are refused."""
    student, teacher = make_model("Llama"), make_model("Llama", vocab_size=32)
    options = {"args": make_arguments(), "train_dataset": make_rows("causal"), "data_collator": collate}
    trainer = DistillationTrainer(
        student,
        teacher=LiveTeacher(teacher, tokenizer=make_tokenizer()),
        objective=Objective("causal"),
        processing_class=make_tokenizer(),
        **options,
    )
    assert trainer.objective.vocab_size == 24
    assert "the teacher model scores 32 ids" in caplog.text
    trainer.train()
    with pytest.raises(VocabularyError, match="the student scores 24 tokens and the teacher 32"):
        DistillationTrainer(student, teacher=LiveTeacher(teacher), objective=Objective("causal"), **options)


def test_another_start_of_decoding_is_refused(make_model: Any, make_arguments: Any) -> None:
    """Both read the same decoder inputs, so both must have learnt to start alike."""
    with pytest.raises(VocabularyError, match="start decoding with different tokens"):
        DistillationTrainer(
            make_model("T5"),
            teacher=LiveTeacher(make_model("T5", decoder_start_token_id=3)),
            objective=Objective("seq2seq"),
            args=make_arguments(),
        )


def test_the_student_cannot_teach_itself(make_model: Any, make_arguments: Any) -> None:
    """A live teacher is frozen, which a student must not be."""
    model = make_model("GPT2")
    with pytest.raises(ValueError, match="the student itself"):
        DistillationTrainer(
            model, teacher=LiveTeacher(model), objective=Objective("causal"), args=make_arguments()
        )


def test_label_smoothing_of_the_arguments_is_heeded(
    make_model: Any, make_arguments: Any, make_rows: Any, collate: Any
) -> None:
    """It reaches the cross-entropy instead of being lost with the Trainer's own loss."""
    student = make_model("Bert")
    losses = []
    for smoothing in (0.0, 0.2):
        trainer = DistillationTrainer(
            student,
            teacher=LiveTeacher(make_model("Bert", seed=1)),
            objective=Objective("masked", kd_weight=0.0),
            args=make_arguments(label_smoothing_factor=smoothing),
            data_collator=collate,
        )
        losses.append(trainer.compute_loss(trainer.model, collate(make_rows("masked"))).item())
    batch = collate(make_rows("masked"))
    with torch.no_grad():
        logits = student(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.2
    )
    assert losses[1] == pytest.approx(expected.item(), rel=1e-5)
    assert losses[0] != losses[1]
