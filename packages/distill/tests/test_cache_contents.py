"""What is kept, how much room it takes, and what cannot be kept."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_kd import (
    CacheConfig,
    CachedTeacher,
    CacheError,
    CacheMismatchError,
    DenseTarget,
    DistillationTrainer,
    LiveTeacher,
    NonFiniteLogitsError,
    Objective,
    VocabularyError,
    write_cache,
)
from distill_kd.cache_config import bytes_of, default_k
from distill_kd.cache_format import decode_top_k, encode_top_k, kl_error, top_k_of


class Masks:
    """Masks a row as a function of its number and the epoch, or, ``moving``, again each time."""

    def __init__(self, collate: Any, *, moving: bool = False) -> None:
        self.collate, self.moving, self.epoch, self.calls = collate, moving, 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch follows."""
        self.epoch = epoch

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Half of the positions become the mask."""
        masked = []
        for row in rows:
            self.calls += self.moving
            seed = 1000 * self.epoch + row["row_id"] + 10_000 * self.calls
            chosen = (
                torch.rand(len(row["input_ids"]), generator=torch.Generator().manual_seed(seed)) < 0.5
            ).tolist()
            pairs = list(zip(row["input_ids"], chosen, strict=True))
            ids = [2 if hidden else token for token, hidden in pairs]
            labels = [token if hidden else -100 for token, hidden in pairs]
            masked.append({**row, "input_ids": ids, "labels": labels})
        made: dict[str, Tensor] = self.collate(masked)
        return made


def test_each_stored_epoch_has_its_own_masks(
    make_model: Any, make_rows: Any, collate: Any, tmp_path: Any
) -> None:
    """The teacher finds the epoch by what the batch holds; one that was not stored is refused."""
    live, rows, masks = LiveTeacher(make_model("Bert", seed=1)), make_rows("causal", count=6), Masks(collate)
    config = CacheConfig(epochs=3)
    report = write_cache(live, rows, masks, tmp_path / "cache", task="masked", config=config)
    assert report.rows == 6
    cached = CachedTeacher(tmp_path / "cache")
    asked = 0
    for epoch in (2, 0, 1):
        masks.set_epoch(epoch)
        batch = masks(rows[::-1])
        target, truth = cached.target(batch), live.target(batch)
        assert isinstance(target, DenseTarget)
        valid = batch["labels"] != -100
        torch.testing.assert_close(target.log_probs[valid], truth.log_probs[valid], rtol=0, atol=1e-5)
        asked += int(valid.sum())
    assert report.tokens == asked
    cached.check_rows(rows, masks, epochs=3)
    masks.set_epoch(3)
    with pytest.raises(CacheError, match=r"masked in another way than in the 3 epoch\(s\)"):
        cached.target(masks(rows))
    with pytest.raises(CacheError, match="masked in another way"):
        cached.check_rows(rows, masks, epochs=4)


def test_masks_that_move_cannot_be_cached(
    make_model: Any, make_rows: Any, collate: Any, tmp_path: Any
) -> None:
    """A collator that masks again each time is refused with that reason, and nothing is written."""
    teacher, rows = LiveTeacher(make_model("Bert")), make_rows("causal")
    with pytest.raises(CacheError, match="masks that are fixed by row and epoch"):
        write_cache(teacher, rows, Masks(collate, moving=True), tmp_path / "cache", task="masked")
    rows, config = make_rows("masked"), CacheConfig(epochs=2)
    with pytest.raises(CacheError, match="has no set_epoch"):
        write_cache(teacher, rows, collate, tmp_path / "cache", task="masked", config=config)
    assert not list(tmp_path.iterdir())


def test_a_padded_vocabulary_is_trimmed_and_said(
    make_model: Any,
    make_rows: Any,
    make_tokenizer: Any,
    make_arguments: Any,
    collate: Any,
    tmp_path: Any,
    caplog: Any,
) -> None:
    """A teacher of 32 ids with a tokenizer of 24 stores 24; padded students train as on the live teacher."""
    live = LiveTeacher(make_model("Llama", seed=1, vocab_size=32), tokenizer=make_tokenizer())
    rows = make_rows("causal", count=4)
    with caplog.at_level(logging.WARNING):
        report = write_cache(live, rows, collate, tmp_path / "cache", task="causal")
    assert "the teacher model scores 32 ids, but the tokenizer has 24 tokens" in caplog.text
    assert report.vocab_size == 24
    cached = CachedTeacher(tmp_path / "cache")
    for size in (24, 30):
        losses = []
        for teacher in (live, cached):
            trainer = DistillationTrainer(
                make_model("Llama", vocab_size=size),
                teacher=teacher,
                objective=Objective("causal"),
                args=make_arguments(max_steps=2),
                train_dataset=rows,
                data_collator=collate,
                processing_class=make_tokenizer(),
            )
            trainer.train()
            losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=0, atol=1e-6)


def test_another_tokenizer_of_the_same_size_is_refused_by_name(
    make_model: Any, make_rows: Any, make_tokenizer: Any, make_arguments: Any, collate: Any, tmp_path: Any
) -> None:
    """The cache keeps the teacher's tokenizer, so the trainer compares it as it would a live one's."""
    tokenizer = make_tokenizer()
    tokenizer.name_or_path = "the-teachers"
    live = LiveTeacher(make_model("Llama", seed=1), tokenizer=tokenizer)
    write_cache(live, make_rows("causal"), collate, tmp_path / "cache", task="causal")
    words = [f"w{index}" for index in range(21)]
    with pytest.raises(VocabularyError, match="teacher tokenizer the-teachers are of the same size"):
        DistillationTrainer(
            make_model("Llama"),
            teacher=CachedTeacher(tmp_path / "cache"),
            objective=Objective("causal"),
            args=make_arguments(),
            processing_class=make_tokenizer([words[1], words[0], *words[2:]]),
        )


def test_what_does_not_fit_is_refused_before_a_byte_is_written(
    make_model: Any, make_rows: Any, collate: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    """Beyond ``max_bytes``, or beyond what the disk has free."""
    teacher, rows = LiveTeacher(make_model("Bert")), make_rows("masked")
    config = CacheConfig(max_bytes=1000)
    with pytest.raises(CacheError, match=r"take 1,\d\d\d bytes, and max_bytes = 1,000\. Ask for a smaller k"):
        write_cache(teacher, rows, collate, tmp_path / "cache", task="masked", config=config)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 999})())
        with pytest.raises(CacheError, match=r"has 999 free\. .* another disk"):
            write_cache(teacher, rows, collate, tmp_path / "cache", task="masked")
    assert not list(tmp_path.iterdir())
    config = CacheConfig(max_bytes=2000)
    write_cache(teacher, rows, collate, tmp_path / "cache", task="masked", config=config)


def test_an_error_budget_chooses_the_smallest_k_that_keeps_it(
    make_model: Any, make_rows: Any, collate: Any, tmp_path: Any, caplog: Any
) -> None:
    """A smaller budget takes more tokens, one too small takes all; each k tried is said with its size."""
    teacher, rows = LiveTeacher(make_model("GPT2", seed=1, vocab_size=200)), make_rows("causal", count=12)
    found: list[Any] = []
    for budget in (0.5, 0.05, 1e-9):
        with caplog.at_level(logging.INFO):
            config = CacheConfig(max_kl_error=budget)
            report = write_cache(teacher, rows, collate, tmp_path / str(budget), task="causal", config=config)
        assert (report.kl_error or 0) <= budget
        found.append(report.k)
    assert found[0] < found[1]
    assert found[2] is None
    assert f"k = {found[0]}: {bytes_of(found[0], 200)} bytes a position, KL error " in caplog.text
    config = CacheConfig(k=found[1] * 4 // 5 - 1)
    report = write_cache(teacher, rows, collate, tmp_path / "less", task="causal", config=config)
    assert report.kl_error is not None
    assert report.kl_error > 0.05


@pytest.mark.parametrize("vocabulary", [1000, 50_000, 152_064])
def test_the_default_takes_at_most_150_bytes_and_finds_every_id(vocabulary: int) -> None:
    """Ids beyond 65,536 too; the error is that of the tail, as eight bits add less than 1e-3 nats."""
    torch.manual_seed(0)
    log_probs = (3 * torch.randn(5, vocabulary)).log_softmax(-1)
    k = default_k(vocabulary)
    found = top_k_of(log_probs, k)
    columns = encode_top_k(found.ids, found.log_probs, found.tail, vocab_size=vocabulary)
    assert sum(column.nbytes for column in columns.values()) == 5 * bytes_of(k, vocabulary)
    assert bytes_of(k, vocabulary) <= 146
    ids, stored, tail = decode_top_k(columns)
    top, truth = log_probs.topk(k)
    assert torch.equal(ids, truth)
    exact = log_probs.double().scatter(1, ids, -torch.inf).logsumexp(1)
    torch.testing.assert_close(tail.double(), exact, rtol=0, atol=1e-3)
    bits = (top.exp() * (top - stored)).sum(1) + (exact.exp() * (exact - tail))
    assert float(bits.abs().max()) < 1e-3
    assert float(kl_error(found, columns).min()) > 0


@pytest.mark.parametrize("scores", [[50.0, *[0.0] * 9], [0.0] * 10, [1.0, 0.5, *[-torch.inf] * 8]])
def test_certain_flat_and_impossible_tokens_are_stored(scores: list[float]) -> None:
    """One token has it all, all have the same, most have nothing: finite, and summing to 1."""
    found = top_k_of(torch.tensor([scores]), 4)
    columns = encode_top_k(found.ids, found.log_probs, found.tail, vocab_size=10)
    _, stored, tail = decode_top_k(columns)
    assert torch.isfinite(stored).all()
    assert torch.isfinite(tail).all()
    assert float(stored.exp().sum() + tail.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert float(kl_error(found, columns)) == pytest.approx(0, abs=1e-4)


def test_rows_that_cannot_be_told_apart_or_teach_nothing_are_refused(
    make_model: Any, make_rows: Any, collate: Any, tmp_path: Any
) -> None:
    """The same number twice, no label anywhere, no rows, epochs of unmasked rows."""
    teacher, rows = LiveTeacher(make_model("GPT2")), make_rows("causal")
    twice = [*rows, rows[2]]
    unlabelled = [{**row, "labels": [-100] * len(row["labels"])} for row in rows]
    for given, message in (
        (twice, "row_id 2 occurs 2 times"),
        (unlabelled, "none of the 4 rows has a label"),
        ([], "no rows"),
    ):
        with pytest.raises(CacheError, match=message):
            write_cache(teacher, given, collate, tmp_path / "cache", task="causal")
    config = CacheConfig(epochs=2)
    with pytest.raises(CacheError, match="epochs = 2 is for masked models"):
        write_cache(teacher, rows, collate, tmp_path / "cache", task="causal", config=config)
    torch.nn.init.constant_(next(teacher.model.parameters()), torch.nan)
    with pytest.raises(NonFiniteLogitsError, match="NaN or infinity in the rows"):
        write_cache(teacher, rows, collate, tmp_path / "cache", task="causal")


def test_an_unfinished_cache_goes_on_only_as_it_began(
    make_model: Any, make_rows: Any, collate: Any, tmp_path: Any
) -> None:
    """Interrupted, it keeps its whole shards: the same k asks only for the rest, another is refused."""
    teacher, rows = LiveTeacher(make_model("GPT2", seed=1)), make_rows("causal", count=12)
    asked = []

    def interrupt(told: dict[str, float]) -> None:
        asked.append(told["step"])
        if len(asked) == 3:
            raise KeyboardInterrupt

    def write(k: int, on_progress: Any = None) -> Any:
        config = CacheConfig(k=k, shard_tokens=10)
        return write_cache(
            teacher,
            rows,
            collate,
            tmp_path / "cache",
            task="causal",
            config=config,
            on_progress=on_progress,
        )

    with pytest.raises(KeyboardInterrupt):
        write(4, interrupt)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(CacheMismatchError, match="with k = 4 and 5 is asked for"):
        write(5)
    with pytest.raises(NotADirectoryError):
        CachedTeacher(tmp_path / "cache")
    rest: list[float] = []
    write(4, lambda told: rest.append(told["step"]))
    assert rest[0] > asked[1]
    assert rest[-1] == 12
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_truncated_cache_serves_no_other_temperature(
    make_model: Any, make_rows: Any, make_arguments: Any, collate: Any, tmp_path: Any
) -> None:
    """Refused before the first step, with both temperatures; a dense one serves all."""
    live, rows = LiveTeacher(make_model("GPT2", seed=1)), make_rows("causal")
    for k in (4, 24):
        write_cache(
            live, rows, collate, tmp_path / str(k), task="causal", config=CacheConfig(k=k, temperature=2)
        )
    objective = Objective("causal", temperature=1.5)
    options = {"objective": objective, "args": make_arguments(), "train_dataset": rows}
    with pytest.raises(CacheMismatchError, match=r"temperature = 2 and 1\.5 is asked for"):
        DistillationTrainer(make_model("GPT2"), teacher=CachedTeacher(tmp_path / "4"), **options)
    DistillationTrainer(make_model("GPT2"), teacher=CachedTeacher(tmp_path / "24"), **options)
    with pytest.raises(CacheMismatchError, match="task = causal and masked"):
        CachedTeacher(tmp_path / "24").check_objective(Objective("masked"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"max_bytes": 0}, "max_bytes = 0"),
        ({"max_kl_error": 0.0}, "above 0 nats"),
        ({"temperature": 0.0}, "must be positive"),
        ({"k": 3, "max_kl_error": 0.1}, "give one"),
    ],
)
def test_settings_outside_their_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    """With the field and what it may be."""
    with pytest.raises(ValueError, match=message):
        CacheConfig(**arguments)
