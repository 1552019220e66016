"""Tiny models of the three families, trained on the spot until their outputs are not degenerate."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the heavy checks out unless they are asked for: ``-m slow``."""
    if "slow" in str(config.option.markexpr):
        return
    heavy = [item for item in items if item.path.is_relative_to(HERE) and item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=heavy)
    items[:] = [item for item in items if item not in heavy]


MASKED = ("bert", "roberta", "distilbert")
SEQ2SEQ = ("marian", "t5", "bart")
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"


def make_tokenizer(kind: str) -> Any:
    """Characters in, symbols out, in one vocabulary whose special tokens come last, ``<pad>`` at the end."""
    import transformers
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    fast: Any = transformers.PreTrainedTokenizerFast
    masked = kind in MASKED
    special = ["[CLS]", "[SEP]", "[MASK]", "<unk>", "<pad>"] if masked else ["<s>", "</s>", "<unk>", "<pad>"]
    words = [*LETTERS, *(letter.upper() * 2 for letter in LETTERS), *special]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    named = {"eos_token": "</s>"}
    frame = {"marian": "$A </s>", "t5": "$A </s>", "bart": "<s> $A </s>"}.get(kind)
    if masked:
        frame = "[CLS] $A [SEP]"
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    elif kind == "bart":
        named["bos_token"] = "<s>"  # noqa: S105
    if frame is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=frame, special_tokens=[(word, ids[word]) for word in frame.split() if word in ids]
        )
    made = fast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", **named)  # noqa: S106
    if kind == "qwen3":
        made.chat_template = CHAT
    return made


def make_model(kind: str, tokenizer: Any) -> Any:
    """A small model that fits ``tokenizer``."""
    import transformers

    t: Any = transformers
    size, pad, eos = len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = {"vocab_size": size, "pad_token_id": pad, "eos_token_id": eos}
    encoder_decoder = {
        "d_model": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1,
        "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.1,
        "max_position_embeddings": 64, "forced_eos_token_id": None, "dropout": 0.0,
    }  # fmt: skip
    layers = {"num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 64, "hidden_size": 32}
    pads = {"vocab_size": size, "pad_token_id": pad}
    places, spread = {"max_position_embeddings": 128}, {"initializer_range": 0.1}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}  # no family's default
    made = {
        "marian": lambda: t.MarianMTModel(
            t.MarianConfig(**ids, **encoder_decoder, decoder_start_token_id=pad, bos_token_id=None)
        ),
        "bart": lambda: t.BartForConditionalGeneration(
            t.BartConfig(
                **ids, **encoder_decoder, decoder_start_token_id=eos, bos_token_id=tokenizer.bos_token_id
            )
        ),
        "t5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(
                **ids, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=pad,
                dropout_rate=0.0,
            )
        ),
        "gpt2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(**ids, n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=eos)
        ),
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**ids, **layers, **places, bos_token_id=None)),
        "qwen3": lambda: t.Qwen3ForCausalLM(
            t.Qwen3Config(
                **ids, **layers, **places, **rope, num_key_value_heads=1, head_dim=16, bos_token_id=None,
                tie_word_embeddings=True,
            )
        ),
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(**pads, **layers, **places, **spread)),
        "roberta": lambda: t.RobertaForMaskedLM(
            t.RobertaConfig(**pads, **layers, **places, **spread, type_vocab_size=1)
        ),
        "distilbert": lambda: t.DistilBertForMaskedLM(
            t.DistilBertConfig(**pads, **spread, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
        ),
    }  # fmt: skip
    return made[kind]()


def batch(kind: str, tokenizer: Any) -> dict[str, Any]:
    """32 rows: letters to their doubled capitals (seq2seq), or the alphabet going on (causal, masked)."""
    import torch

    def column(token: int) -> torch.Tensor:
        return torch.full((32, 1), token)

    if kind in SEQ2SEQ:
        ids, end = torch.randint(0, 26, (32, 6)), column(tokenizer.eos_token_id)
        if kind == "t5":  # has no absolute positions to copy from
            ids = (torch.randint(0, 26, (32, 1)) + torch.arange(int(torch.randint(5, 9, ())))) % 26
        begin = [column(tokenizer.bos_token_id)] if kind == "bart" else []
        return {"input_ids": torch.cat([*begin, ids, end], 1), "labels": torch.cat([ids + 26, end], 1)}
    ids = (
        torch.randint(0, 26, (32, 1)) + torch.arange(int(torch.randint(5, 9, ())) if kind in MASKED else 12)
    ) % 26
    if kind not in MASKED:
        return {"input_ids": ids, "labels": ids}
    row = torch.cat([column(tokenizer.cls_token_id), ids, column(tokenizer.sep_token_id)], 1)
    labels, hidden = torch.full_like(row, -100), row.clone()
    place = torch.randint(1, ids.shape[1] + 1, (32, 1))
    labels.scatter_(1, place, row.gather(1, place))
    hidden.scatter_(1, place, tokenizer.mask_token_id)
    return {"input_ids": hidden, "labels": labels}


def train(kind: str, model: Any, tokenizer: Any, steps: int) -> None:
    """Until the outputs are anything but degenerate, and are known with some margin."""
    import torch

    rate = 1e-2
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.eval()  # no dropout: it learns sooner
    for _ in range(steps):
        loss = model(**batch(kind, tokenizer)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def texts_of(kind: str) -> list[str]:
    """Texts to compare on: together far more than 200 tokens."""
    generator = random.Random(1)
    if kind in SEQ2SEQ and kind != "t5":
        return ["".join(generator.choices(LETTERS, k=6)) for _ in range(50)]
    lengths = {"t5": (5, 6, 7)}.get(kind, (6, 7) if kind in MASKED else (2, 3))
    return [(2 * LETTERS)[start : start + length] for length in lengths for start in range(26)]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The sealed folder of a trained tiny model of a kind; what ends in ``_early`` knows little yet."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            import torch

            from distill_deploy import save

            torch.manual_seed(0)
            family = kind.removesuffix("_early")
            tokenizer = make_tokenizer(family)
            model = make_model(family, tokenizer)
            train(
                family, model, tokenizer, 100 if kind != family else 400 if kind in ("t5", *MASKED) else 300
            )
            made[kind] = save(model, tokenizer, tmp_path_factory.mktemp(kind) / "model")
        return made[kind]

    return make


@pytest.fixture
def held_out() -> Callable[[str], list[str]]:
    """The texts to compare a kind of model on."""
    return texts_of


@pytest.fixture(name="tokenizer")
def of_a_kind() -> Callable[[str], Any]:
    """A tokenizer of letters, laid out as a kind of model has it."""
    return make_tokenizer
