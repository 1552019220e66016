"""Tiny real models of the three families, their tokenizer, rows and policy, made on the spot."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from distill_adapters import LoadedModel, Task, new_model
from distill_hwdetect import ExecutionPolicy, Requirements, choose_policy, detect, read_model_facts

_SMALL: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
}
_TRANSLATOR: dict[str, object] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 32,
    "init_std": 0.2,
    "dropout": 0.0,
}
# By model_type: the task and the configuration.
FAMILIES: dict[str, tuple[Task, dict[str, object]]] = {
    "marian": ("seq2seq", {**_TRANSLATOR, "scale_embedding": True}),
    "bart": ("seq2seq", _TRANSLATOR),
    "m2m_100": ("seq2seq", {**_TRANSLATOR, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}),
    "t5": (
        "seq2seq",
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0},
    ),
    "gpt2": (
        "causal",
        {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 32,
            "initializer_range": 0.2,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        },
    ),
    "llama": ("causal", {**_SMALL, "num_key_value_heads": 1}),
    "qwen3": ("causal", {**_SMALL, "num_key_value_heads": 1, "head_dim": 16}),
    "gemma": ("causal", {**_SMALL, "num_key_value_heads": 1, "head_dim": 16}),
    "modernbert": ("masked", {**_SMALL, "local_attention": 8, "cls_token_id": 0, "sep_token_id": 0}),
    "bert": ("masked", {**_SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}),
    "distilbert": (
        "masked",
        {
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 64,
            "max_position_embeddings": 32,
            "initializer_range": 0.2,
            "dropout": 0.0,
            "attention_dropout": 0.0,
        },
    ),
}
WORDS = [f"w{index}" for index in range(20)]


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Every test begins with the same random state and threads, alone or after others."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(name="tokenizer", scope="session")
def _tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; ``</s>`` ends every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokens = [*WORDS, "</s>", "<unk>", "<mask>", "<pad>"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - a token's name
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokens.index("</s>"))]
    )
    special = {"eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)  # type: ignore[no-untyped-call]  # untyped


@pytest.fixture(name="make")
def _make(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LoadedModel]:
    """``make(family, seed=0, **changes)``: a tiny model of a family."""

    def make(family: str, *, seed: int = 0, **changes: object) -> LoadedModel:
        task, config = FAMILIES[family]
        return new_model({"model_type": family, **config, **changes}, tokenizer, task=task, seed=seed)

    return make


@pytest.fixture(name="make_policy", scope="session")
def _make_policy() -> Callable[..., ExecutionPolicy]:
    """``make_policy(family, training=True, batch=4, adapter="full", **overrides)``: this machine's plan."""
    profile = detect()

    def make(
        family: str, *, training: bool = True, batch: int = 4, adapter: Any = "full", **overrides: object
    ) -> ExecutionPolicy:
        task, config = FAMILIES[family]
        facts = read_model_facts({"model_type": family, "vocab_size": 24, **config})
        fixed = {"device": "cpu", "threads": 1, "workers": 0, **overrides}
        asked = Requirements(
            task=task,
            model=facts,
            training=training,
            effective_batch=batch,
            source_length=8,
            target_length=8,
            adapter=adapter,
            overrides=fixed,
        )
        return choose_policy(profile, asked)

    return make


@pytest.fixture(name="make_rows")
def _make_rows(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Dataset]:
    """``make_rows(task, count=4)``: tokenized rows of unequal length, each with its ``row_id``."""

    def make(task: Task, *, count: int = 4, seed: int = 0) -> Dataset:
        generator = torch.Generator().manual_seed(seed)
        end, mask = int(str(tokenizer.eos_token_id)), int(str(tokenizer.mask_token_id))
        rows = []
        for index in range(count):
            words = torch.randint(0, len(WORDS), (3 + index % 4,), generator=generator).tolist()
            ids, labels = [*words, end], [*words, end]
            if task == "seq2seq":
                labels = [*words[::-1], end]
            if task == "masked":
                labels = [token if place % 2 == 0 else -100 for place, token in enumerate(ids)]
                ids = [mask if label != -100 else token for token, label in zip(ids, labels, strict=True)]
            rows.append(
                {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, "row_id": index}
            )
        return Dataset.from_list(rows)

    return make


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad on the right; labels with -100."""
    batch = {}
    for name, value in (("input_ids", 23), ("attention_mask", 0), ("labels", -100)):
        longest = max(len(row[name]) for row in rows)
        batch[name] = torch.tensor([list(row[name]) + [value] * (longest - len(row[name])) for row in rows])
    batch["row_id"] = torch.tensor([row["row_id"] for row in rows])
    return batch


@pytest.fixture(name="collate")
def _collate() -> Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]:
    """The collator of these tests."""
    return collate


@pytest.fixture(name="make_trainer")
def _make_trainer(
    make: Callable[..., LoadedModel],
    make_policy: Callable[..., ExecutionPolicy],
    make_rows: Callable[..., Dataset],
    tmp_path: Path,
) -> Callable[..., Any]:
    """``make_trainer(family, rows=, config=, policy=, **options)``: a SafeTrainer of a tiny model."""

    def build(
        family: str,
        *,
        rows: Any = None,
        config: dict[str, Any] | None = None,
        policy: dict[str, Any] | None = None,
        folder: str = "run",
        loaded: LoadedModel | None = None,
        **options: Any,
    ) -> Any:
        from distill_adapters import SafeTrainer, TrainConfig, training_arguments

        task = FAMILIES[family][0]
        chosen = TrainConfig(
            **{"steps": 3, "batch_size": 4, "learning_rate": 0.01, "schedule": "constant", **(config or {})}
        )
        arguments = training_arguments(
            chosen, make_policy(family, **(policy or {})), tmp_path / folder, task=task, seed=0
        )
        arguments.logging_steps = 1
        return SafeTrainer(
            (loaded or make(family)).model,
            args=arguments,
            train_dataset=make_rows(task) if rows is None else rows,
            data_collator=collate,
            **options,
        )

    return build


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Heavy checks run only where ``-m`` speaks of them."""
    if "slow" in str(config.getoption("-m")):
        return
    heavy = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=heavy)
    items[:] = [item for item in items if item not in heavy]
