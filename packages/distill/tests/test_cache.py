"""A teacher asked once is a teacher asked always; what does not fit is refused by name."""

import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_deploy import IntegrityError
from distill_kd import (
    CacheConfig,
    CachedTeacher,
    CacheError,
    CacheMismatchError,
    DenseTarget,
    DistillationTrainer,
    LiveTeacher,
    Objective,
    Teacher,
    TopKTarget,
    cache_fingerprint,
    write_cache,
)

FAMILIES = {"Marian": "seq2seq", "Bert": "masked", "Llama": "causal"}
Batch = dict[str, Tensor]


@pytest.fixture(name="write")
def _write(make_model: Any, make_rows: Any, collate: Any, tmp_path: Any) -> Any:
    """``write(name, rows=, folder=, **config)``: a tiny teacher's cache; gives report, teacher, rows."""

    def write(
        name: str, *, rows: Any = None, folder: str = "cache", collator: Any = None, **config: Any
    ) -> Any:
        task: Any = FAMILIES[name]
        teacher = LiveTeacher(make_model(name, seed=1))
        rows = rows or make_rows(task, count=8)
        options = {key: config.pop(key) for key in ("data_fingerprint", "on_progress") if key in config}
        report = write_cache(
            teacher,
            rows,
            collator or collate,
            tmp_path / folder,
            task=task,
            config=CacheConfig(**config),
            **options,
        )
        return report, teacher, rows

    return write


def batch_of(name: str, model: Any, rows: Any, collate: Any) -> Batch:
    """A collated batch, with the decoder's inputs where there is one."""
    batch: Batch = collate(rows)
    if FAMILIES[name] == "seq2seq":
        batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    return batch


def counted(name: str, labels: Tensor) -> Tensor:
    """Positions whose logits meet a label: written again, apart from the package."""
    valid = labels != -100
    if FAMILIES[name] == "causal":
        valid = torch.nn.functional.pad(valid[:, 1:], (0, 1))
    return valid


@pytest.mark.parametrize("name", FAMILIES)
def test_training_on_a_dense_cache_is_training_on_the_teacher(
    name: str, write: Any, make_model: Any, make_arguments: Any, collate: Any, tmp_path: Any
) -> None:
    """Losses and weights agree to 1e-6 after two shuffled epochs; the trainer is told nothing."""
    _, live, rows = write(name)
    results = []
    for teacher in (live, CachedTeacher(tmp_path / "cache")):
        assert isinstance(teacher, Teacher)
        trainer = DistillationTrainer(
            make_model(name),
            teacher=teacher,
            objective=Objective(FAMILIES[name], kd_weight=0.9, temperature=2.0),  # type: ignore[arg-type]
            args=make_arguments(max_steps=6, per_device_train_batch_size=3, optim="sgd"),
            train_dataset=rows,
            data_collator=collate,
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        results.append((torch.tensor(losses), trainer.model.state_dict()))
    (live_losses, live_weights), (cached_losses, weights) = results
    assert len(live_losses) == 6
    torch.testing.assert_close(cached_losses, live_losses, rtol=0, atol=1e-6)
    for key, value in live_weights.items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_truncated_cache_trains_as_its_tokens_and_tail_say(
    name: str, write: Any, make_model: Any, make_arguments: Any, collate: Any, tmp_path: Any
) -> None:
    """With all tokens but one the tail is that one, so only 8 bits stand between cache and teacher."""
    _, live, rows = write(name, k=23)
    losses = []
    for teacher in (live, CachedTeacher(tmp_path / "cache")):
        trainer = DistillationTrainer(
            make_model(name),
            teacher=teacher,
            objective=Objective(FAMILIES[name], kd_weight=0.9),  # type: ignore[arg-type]  # a task
            args=make_arguments(max_steps=4, optim="sgd"),
            train_dataset=rows,
            data_collator=collate,
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses[0]) == 4
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_read_in_any_order_and_batch(
    name: str, write: Any, collate: Any, tmp_path: Any, make_rows: Any
) -> None:
    """Over several shards: backwards, twice the same row, alone; a pickled teacher reads the same."""
    report, live, rows = write(name, shard_tokens=7)
    assert len(list((tmp_path / "cache").glob("shard-*.safetensors"))) > 2
    assert report.tokens == sum(int(counted(name, collate([row])["labels"]).sum()) for row in rows)
    cached = CachedTeacher(tmp_path / "cache")
    for teacher in (cached, pickle.loads(pickle.dumps(cached))):  # noqa: S301 - our own
        for chosen in ([7, 0, 3], [2], [5, 5], list(range(8))):
            batch = batch_of(name, live.model, [rows[index] for index in chosen], collate)
            target, truth = teacher.target(batch), live.target(batch)
            assert isinstance(target, DenseTarget)
            valid = counted(name, batch["labels"])
            torch.testing.assert_close(target.log_probs[valid], truth.log_probs[valid], rtol=0, atol=1e-5)
            assert not target.log_probs[~valid].any()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_truncated_cache_holds_the_likeliest_tokens_and_the_tail(
    name: str, write: Any, collate: Any, tmp_path: Any
) -> None:
    """Ids are those of topk at the cache's temperature; probabilities are near, and make 1 with the tail."""
    report, live, rows = write(name, k=6, temperature=1.5)
    batch = batch_of(name, live.model, rows, collate)
    target = CachedTeacher(tmp_path / "cache").target(batch)
    assert isinstance(target, TopKTarget)
    valid = counted(name, batch["labels"])
    truth = (live.target(batch).log_probs[valid] / 1.5).log_softmax(-1)
    top, ids = truth.topk(6)
    assert target.temperature == 1.5
    assert torch.equal(target.ids[valid], ids)
    torch.testing.assert_close(target.log_probs[valid], top, rtol=0, atol=0.05)
    whole = target.log_probs[valid].exp().sum(-1) + target.tail[valid].exp()
    torch.testing.assert_close(whole, torch.ones_like(whole), rtol=0, atol=1e-5)
    torch.testing.assert_close(target.tail[valid].exp(), 1 - top.exp().sum(-1), rtol=0, atol=1e-3)
    # The error that is told: the tail spread evenly over the tokens left out, in float64.
    spread = target.tail[valid].double() - torch.tensor(24.0 - 6).log()
    stored = spread[:, None].repeat(1, 24).scatter(1, ids, target.log_probs[valid].double())
    error = torch.nn.functional.kl_div(stored, truth.double(), reduction="none", log_target=True)
    assert report.kl_error == pytest.approx(float(error.sum(-1).mean()), rel=1e-4)


def packed(rows: Any, width: int) -> Batch:
    """Two packed rows, the second one shorter: positions begin again, a block mask keeps the texts apart."""
    batch: dict[str, list[Any]] = {"input_ids": [], "labels": [], "position_ids": [], "row_id": []}
    for group in (rows[:3], rows[3:5]):
        ids = [token for row in group for token in row["input_ids"]]
        labels = [label for row in group for label in [-100, *row["labels"][1:]]]
        places = [place for row in group for place in range(len(row["input_ids"]))]
        rest = width - len(ids)
        batch["input_ids"].append(ids + [0] * rest)
        batch["labels"].append(labels + [-100] * rest)
        batch["position_ids"].append(places + list(range(rest)))
        batch["row_id"].append([row["row_id"] for row in group] + [-1] * (3 - len(group)))
    made = {name: torch.tensor(values) for name, values in batch.items()}
    texts = (made["position_ids"] == 0).cumsum(1)
    apart = (texts[:, :, None] == texts[:, None, :]).tril()[:, None]
    made["attention_mask"] = torch.zeros(apart.shape).masked_fill(~apart, torch.finfo(torch.float32).min)
    return made


def test_packed_batches_read_the_cache_of_the_rows_in_them(write: Any, tmp_path: Any) -> None:
    """Packed otherwise in every epoch, they find each text; packed rows themselves are not written."""
    _, live, rows = write("Llama")
    batch = packed(rows, 26)
    target, truth = CachedTeacher(tmp_path / "cache").target(batch), live.target(batch)
    valid = counted("Llama", batch["labels"])
    assert int(valid.sum()) == sum(len(row["input_ids"]) - 1 for row in rows[:5])
    assert isinstance(target, DenseTarget)
    torch.testing.assert_close(target.log_probs[valid], truth.log_probs[valid], rtol=0, atol=1e-5)
    batch["input_ids"][0, 0] += 1
    with pytest.raises(CacheError, match=r"row 0 is in .* other inputs"):
        CachedTeacher(tmp_path / "cache").target(batch)
    with pytest.raises(CacheError, match=r"2 packed rows were given, of 5 texts"):
        write("Llama", rows=[0, 1], collator=lambda chosen: {
            name: value[chosen] for name, value in packed(rows, 26).items()}, folder="other")  # fmt: skip


def test_the_field_that_differs_is_named(write: Any, make_model: Any, tmp_path: Any) -> None:
    """Model, dtype, masking, data ...: each refused on opening, and none when all agree."""
    made_from = {"data": "a" * 64, "template": "b" * 64, "masking": "c" * 64}
    _, live, rows = write("Llama", data_fingerprint=made_from)
    expected = cache_fingerprint(live, None, made_from)
    assert {"model", "dtype", "data", "template", "masking"} <= set(expected)
    CachedTeacher(tmp_path / "cache", expected=expected)
    for field in expected:
        with pytest.raises(CacheMismatchError, match=f"was made from another {field}: "):
            CachedTeacher(tmp_path / "cache", expected={**expected, field: "0"})
    other = cache_fingerprint(LiveTeacher(make_model("Llama", seed=2)), None, made_from)
    with pytest.raises(CacheMismatchError, match="another model"):
        CachedTeacher(tmp_path / "cache", expected=other)
    half = cache_fingerprint(LiveTeacher(live.model.bfloat16()), None, made_from)
    with pytest.raises(CacheMismatchError, match="another dtype"):
        CachedTeacher(tmp_path / "cache", expected={**half, "model": expected["model"]})
    changed = [{**row, "labels": row["labels"][::-1]} for row in rows]
    with pytest.raises(CacheMismatchError, match="another rows"):
        write("Llama", rows=changed, data_fingerprint=made_from)
    with pytest.raises(CacheMismatchError, match="k = None and 3 is asked for"):
        write("Llama", k=3, data_fingerprint=made_from)


def test_a_row_that_is_not_there_is_refused(
    write: Any, make_rows: Any, make_model: Any, collate: Any, tmp_path: Any
) -> None:
    """An unknown row, a row with other inputs, a batch without row_id; check_rows finds it beforehand."""
    _, live, rows = write("Marian")
    teacher = CachedTeacher(tmp_path / "cache")
    teacher.check_rows(rows, collate)
    more = make_rows("seq2seq", count=9)
    with pytest.raises(
        CacheError, match=r"row 8 is not in .* holds 8 rows. Write the cache over every split"
    ):
        teacher.check_rows(more, collate)
    cut = {
        **rows[3],
        "input_ids": rows[3]["input_ids"][:-1],
        "attention_mask": rows[3]["attention_mask"][:-1],
    }
    with pytest.raises(CacheError, match=r"row 3 is in .* other inputs or labels"):
        teacher.target(batch_of("Marian", live.model, [cut], collate))
    batch = collate(rows)
    del batch["row_id"]
    with pytest.raises(CacheError, match="no row_id"):
        teacher.target(batch)


def test_a_changed_byte_is_refused(write: Any, tmp_path: Any) -> None:
    """Anywhere: in a shard or in what it says about itself."""
    write("Bert")
    for name in ("shard-00000.safetensors", "cache.json"):
        path = tmp_path / "cache" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
        with pytest.raises(IntegrityError, match=name):
            CachedTeacher(tmp_path / "cache")
        path.write_bytes(whole)
    CachedTeacher(tmp_path / "cache")


def test_what_is_there_is_not_asked_again(write: Any, tmp_path: Any) -> None:
    """A finished cache of the same things is left as it is, and reported alike."""
    asked: list[Any] = []
    first, _, _ = write("Bert", on_progress=asked.append)
    assert asked[-1]["step"] == asked[-1]["total_steps"] == 8
    before = len(asked)
    again, _, _ = write("Bert", on_progress=asked.append)
    assert len(asked) == before
    assert replace(again, seconds=0) == replace(first, seconds=0)
    header = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert header["tokens"] == first.tokens
    assert str(first).startswith("8 rows, ")
