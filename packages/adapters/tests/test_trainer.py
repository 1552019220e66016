"""The loss is what it says, whatever the accumulation, and nothing that went wrong goes on."""

import math
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers.training_args import OptimizerNames

from distill_adapters import FineTuner, GradientError, LabelError, NonFiniteError, TrainConfig
from distill_adapters.gradients import check_gradients

THREE = ("marian", "gpt2", "bert")


def oracle(loaded: Any, rows: Dataset) -> float:
    """Mean loss a token, row by row without padding, in float64."""
    model = loaded.model.double().eval()
    total, tokens = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if loaded.task == "seq2seq":
            start = loaded.model.config.decoder_start_token_id
            given["decoder_input_ids"] = torch.cat([torch.tensor([start]), labels[:-1]])[None]
        with torch.no_grad():
            scores = model(**given).logits[0].log_softmax(-1)
        if loaded.task == "causal":
            scores, labels = scores[:-1], labels[1:]
        for score, label in zip(scores, labels.tolist(), strict=True):
            if label != -100:
                total, tokens = total - float(score[label]), tokens + 1
    loaded.model.float()
    return total / tokens


def losses(trainer: Any) -> list[float]:
    """What the trainer logged, step by step."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("family", ["marian", "bart", "t5", "gpt2", "llama", "bert", "distilbert"])
def test_first_loss_is_the_oracles_and_falls(
    family: str, make: Any, make_trainer: Any, make_rows: Any
) -> None:
    """It equals an unpadded float64 computation, and training on the same rows lowers it by a third."""
    loaded = make(family)
    expected = oracle(loaded, make_rows(loaded.task))
    trainer = make_trainer(family, loaded=loaded, config={"steps": 25})
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(expected, rel=1e-5)
    assert losses(trainer)[-1] < 0.67 * expected


@pytest.mark.parametrize("family", THREE)
def test_accumulation_changes_nothing(family: str, make_trainer: Any) -> None:
    """Four micro-batches of unequal token counts train like one batch: losses and weights."""
    results = []
    for micro in (4, 1):
        trainer = make_trainer(family, policy={"micro_batch": micro, "accumulation": 4 // micro})
        # Adam would blow rounding up where a gradient is zero but for it.
        trainer.args.optim = OptimizerNames.SGD
        assert trainer.args.per_device_train_batch_size == micro
        trainer.train()
        results.append((losses(trainer), trainer.model.state_dict()))
    (whole, weights), (pieces, other) = results
    assert pieces == pytest.approx(whole, rel=1e-4)
    for name, value in weights.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", THREE)
def test_evaluation_weighs_every_token_alike(
    family: str, make: Any, make_trainer: Any, make_rows: Any
) -> None:
    """Batches of one give the loss of one batch of all."""
    loaded = make(family)
    rows = make_rows(loaded.task)
    expected = oracle(loaded, rows)
    for size in (1, 3):
        trainer = make_trainer(family, loaded=loaded, eval_dataset=rows)
        trainer.args.per_device_eval_batch_size = size
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_progress_is_told_after_every_step(make_trainer: Any) -> None:
    """With step, total, the step's own loss, learning rate, tokens and memory."""
    told: list[dict[str, float]] = []
    trainer = make_trainer("marian", on_progress=told.append)
    trainer.train()
    assert [entry["step"] for entry in told] == [1, 2, 3]
    assert {entry["total_steps"] for entry in told} == {3}
    assert [entry["loss"] for entry in told] == pytest.approx(losses(trainer), rel=1e-5)
    assert all(entry["learning_rate"] == 0.01 for entry in told)
    assert all(entry["tokens"] > 0 and entry["memory_bytes"] > 1e7 for entry in told)


def test_nothing_is_printed(make_trainer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither logs nor bars, while training and while checkpoints are written."""
    make_trainer("marian", config={"save_every": 2}).train()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_a_loss_that_is_not_finite_stops_the_run(make: Any, make_trainer: Any) -> None:
    """In its step, naming it and the rows."""
    loaded = make("marian")
    trainer = make_trainer("marian", loaded=loaded, config={"steps": 5}, verify_gradients=False)

    class Spoil(type(trainer.callback_handler.callbacks[0])):  # type: ignore[misc]  # a TrainerCallback
        def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
            if state.global_step == 2:
                with torch.no_grad():
                    next(loaded.model.parameters()).fill_(math.nan)

    trainer.add_callback(Spoil())
    with pytest.raises(NonFiniteError, match=r"loss is nan in step 3, rows \d"):
        trainer.train()
    assert trainer.state.global_step == 2


def test_a_gradient_that_is_not_finite_stops_the_run(make: Any, make_trainer: Any) -> None:
    """Before the optimizer uses it: the weights are those of the step before."""
    loaded = make("marian")
    first = next(loaded.model.parameters())
    trainer = make_trainer("marian", loaded=loaded, verify_gradients=False)
    before = {name: part.detach().clone() for name, part in loaded.model.named_parameters()}
    first.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteError, match=r"norm of the gradients is \w+ in step 1"):
        trainer.train()
    for name, part in loaded.model.named_parameters():
        assert torch.equal(part, before[name])


def test_gradients_are_watched_without_a_limit_too(make: Any, make_trainer: Any) -> None:
    """With ``max_grad_norm = 0`` nothing is scaled, and the stop is the same."""
    loaded = make("marian")
    next(loaded.model.parameters()).register_hook(lambda gradient: gradient * math.nan)
    trainer = make_trainer("marian", loaded=loaded, config={"max_grad_norm": 0.0}, verify_gradients=False)
    with pytest.raises(NonFiniteError, match="in step 1"):
        trainer.train()


@pytest.mark.parametrize("family", THREE)
def test_data_without_labels_is_refused(family: str, make_trainer: Any, make_rows: Any) -> None:
    """When every label is -100, naming how many rows were seen; the first causal token does not count."""
    rows = make_rows(make_trainer(family).task)
    empty = rows.map(lambda row: {"labels": [row["labels"][0]] + [-100] * (len(row["labels"]) - 1)})
    if family != "gpt2":
        empty = empty.map(lambda row: {"labels": [-100] * len(row["labels"])})
    with pytest.raises(LabelError, match="every label of all 4 rows is -100"):
        make_trainer(family, rows=empty).train()


def test_no_rows_are_refused(make_trainer: Any, make_rows: Any) -> None:
    """Rather than trained on for nothing."""
    with pytest.raises(LabelError, match="no rows"):
        make_trainer("marian", rows=make_rows("seq2seq").select([])).train()


def test_the_gradient_check_puts_everything_back(make: Any, make_trainer: Any) -> None:
    """Weights, buffers, gradients, mode and random state, bit for bit."""
    loaded = make("bert")
    trainer = make_trainer("bert", loaded=loaded)
    loaded.model.eval()
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    state = torch.random.get_rng_state()
    trainer.verify_gradients()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not loaded.model.training
    assert all(part.grad is None for part in loaded.model.parameters())
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(("recomputed", "passes"), [(False, 2), (True, 3)])
def test_the_gradient_check_recomputes_activations_as_training_does(
    recomputed: bool, passes: int, make: Any, make_trainer: Any
) -> None:
    """A block runs forward twice, and once more where the policy has activations recomputed."""
    loaded = make("llama")
    trainer = make_trainer("llama", loaded=loaded, policy={"gradient_checkpointing": recomputed})
    seen: list[int] = []
    block = loaded.model.model.layers[0].mlp
    block.register_forward_pre_hook(lambda *_: seen.append(1))
    trainer.verify_gradients()
    assert len(seen) == passes


def test_a_frozen_model_is_refused(make: Any, make_trainer: Any) -> None:
    """Before training, saying that nothing is trainable."""
    loaded = make("marian")
    loaded.model.requires_grad_(False)
    with pytest.raises(GradientError, match="no parameter is trainable"):
        make_trainer("marian", loaded=loaded).train()


def test_a_parameter_without_gradient_is_named() -> None:
    """One that the loss does not reach."""
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "idle": torch.nn.Linear(2, 1)})
    inputs = torch.ones(3, 2)
    with pytest.raises(GradientError, match=r"2 of 4 .* such as idle\.weight"):
        check_gradients(model, lambda: model["used"](inputs).square().sum())


def test_a_loss_that_cannot_fall_is_refused() -> None:
    """A gradient of the wrong sign is found before it trains for hours."""
    model = torch.nn.Linear(2, 1)
    inputs = torch.ones(3, 2)

    def wrong() -> torch.Tensor:
        loss = (model(inputs) - 100).square().sum()
        flipped: torch.Tensor = 2 * loss.detach() - loss
        return flipped

    with pytest.raises(GradientError, match="do not lower the loss"):
        check_gradients(model, wrong)


def test_memory_is_noted_at_each_stage(make_trainer: Any) -> None:
    """Resident bytes before and after training."""
    trainer = make_trainer("marian")
    trainer.train()
    assert [entry["stage"] for entry in trainer.memory] == ["made", "before training", "after training"]
    assert all(entry["rss_bytes"] > 1e6 for entry in trainer.memory)


@pytest.mark.parametrize("family", [*THREE, "m2m_100"])
def test_fine_tuning_without_a_collator_learns(
    family: str, make: Any, make_policy: Any, make_rows: Any, tmp_path: Any
) -> None:
    """The collator of transformers for the task is taken; masked rows are masked by it."""
    loaded = make(family)
    rows = make_rows("seq2seq" if loaded.task == "seq2seq" else "causal", count=8)
    tuner = FineTuner(
        loaded,
        config=TrainConfig(steps=6, batch_size=4, learning_rate=0.01, evaluate_every=3),
        policy=make_policy(family),
        output_dir=tmp_path,
    )
    outcome = tuner.train({"train": rows, "validation": rows})
    assert outcome.steps == 6
    assert 0 < outcome.loss < 30
    assert outcome.metrics["eval_loss"] > 0
    assert not list(tmp_path.iterdir())


def test_missing_splits_are_named(make: Any, make_policy: Any, make_rows: Any, tmp_path: Any) -> None:
    """``train`` always, ``validation`` where evaluation is asked for."""
    tuner = FineTuner(
        make("marian"),
        config=TrainConfig(steps=1, evaluate_every=1),
        policy=make_policy("marian"),
        output_dir=tmp_path,
    )
    with pytest.raises(ValueError, match="'train' is needed; found test"):
        tuner.train({"test": make_rows("seq2seq")})
    with pytest.raises(ValueError, match="needs a split named 'validation'; found train"):
        tuner.train({"train": make_rows("seq2seq")})


def test_packed_rows_need_their_own_collator(
    make: Any, make_policy: Any, make_rows: Any, tmp_path: Any
) -> None:
    """Without it one text of a row would read another; nothing is trained."""
    rows = make_rows("causal").map(lambda row: {"position_ids": list(range(len(row["input_ids"])))})
    tuner = FineTuner(
        make("llama"), config=TrainConfig(steps=1), policy=make_policy("llama"), output_dir=tmp_path
    )
    with pytest.raises(ValueError, match=r"the rows hold position_ids.*Give data_collator="):
        tuner.train({"train": rows})


def test_a_family_without_its_own_shift_trains(
    make: Any, make_policy: Any, make_rows: Any, tmp_path: Any
) -> None:
    """M2M100 and NLLB cannot make decoder inputs of labels: they are shifted by one, and -100 is padding."""
    from distill_adapters import decoder_inputs

    loaded = make("m2m_100")
    start, pad = loaded.model.config.decoder_start_token_id, loaded.model.config.pad_token_id
    labels = torch.tensor([[5, 6, -100], [7, -100, -100]])
    shifted = decoder_inputs(loaded.model, labels)
    assert shifted.tolist() == [[start, 5, 6], [start, 7, pad]]
    loaded.model.eval()
    with torch.inference_mode():
        own = loaded.model(input_ids=shifted, labels=labels).logits  # it shifts inside its forward pass
        torch.testing.assert_close(loaded.model(input_ids=shifted, decoder_input_ids=shifted).logits, own)
    outcome = FineTuner(
        loaded,
        config=TrainConfig(steps=2, batch_size=4),
        policy=make_policy("m2m_100"),
        output_dir=tmp_path,
    ).train({"train": make_rows("seq2seq")})
    assert outcome.steps == 2
    own_shift = make("marian").model
    assert decoder_inputs(own_shift, labels).tolist() == [[23, 5, 6], [23, 7, 23]]
