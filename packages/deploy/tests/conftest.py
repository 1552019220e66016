"""Tiny models of the three families, trained on the spot until their outputs are not degenerate."""

from __future__ import annotations

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


def make_tokenizer(kind: str) -> Any:
    """Characters in, symbols out, in one vocabulary whose special tokens come last, ``<pad>`` at the end."""
    import transformers
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    fast: Any = transformers.PreTrainedTokenizerFast

    special = ["</s>", "<unk>", "<pad>"] if kind != "bert" else ["[CLS]", "[SEP]", "[MASK]", "<unk>", "<pad>"]
    words = [*LETTERS, *(letter.upper() * 2 for letter in LETTERS), *special]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    ids = {word: i for i, word in enumerate(words)}
    if kind == "bert":
        frame = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=frame
        )
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    else:
        named = {"eos_token": "</s>"}
        if kind in ("marian", "t5"):
            tokenizer.post_processor = processors.TemplateProcessing(
                single="$A </s>", special_tokens=[("</s>", ids["</s>"])]
            )
    return fast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", **named)  # noqa: S106


def make_model(kind: str, tokenizer: Any) -> Any:
    """A model of two layers that fits ``tokenizer``."""
    import transformers

    t: Any = transformers

    size, pad, eos = len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    llama = {"num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64, "hidden_size": 32}
    if kind == "marian":
        return t.MarianMTModel(
            t.MarianConfig(
                vocab_size=size, d_model=32, **heads, **layers, pad_token_id=pad, eos_token_id=eos,
                decoder_start_token_id=pad, bos_token_id=None, forced_eos_token_id=None, init_std=0.1,
            )
        )  # fmt: skip
    if kind == "t5":
        return t.T5ForConditionalGeneration(
            t.T5Config(
                vocab_size=size, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, pad_token_id=pad,
                eos_token_id=eos, decoder_start_token_id=pad, dropout_rate=0.0,
            )
        )  # fmt: skip
    if kind == "gpt2":
        return t.GPT2LMHeadModel(
            t.GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64, pad_token_id=pad,
                         eos_token_id=eos, bos_token_id=eos)
        )  # fmt: skip
    if kind == "llama":
        return t.LlamaForCausalLM(
            t.LlamaConfig(vocab_size=size, **llama, max_position_embeddings=64, pad_token_id=pad, eos_token_id=eos,  # noqa: E501
                          bos_token_id=None, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
        )  # fmt: skip
    return t.BertForMaskedLM(
        t.BertConfig(vocab_size=size, **llama, max_position_embeddings=64, pad_token_id=pad)
    )


def train(kind: str, model: Any, tokenizer: Any) -> None:
    """Letters to their doubled capitals (seq2seq), or the alphabet going on (causal, masked)."""
    import torch

    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.eval()  # no dropout: it learns sooner
    for _ in range(250):
        if kind in ("marian", "t5"):
            ids = torch.randint(0, 26, (32, 6))
            end = torch.full((32, 1), tokenizer.eos_token_id)
            loss = model(input_ids=torch.cat([ids, end], 1), labels=torch.cat([ids + 26, end], 1)).loss
        elif kind == "bert":
            ids = (torch.randint(0, 26, (32, 1)) + torch.arange(6)) % 26
            first = torch.full((32, 1), tokenizer.cls_token_id)
            last = torch.full((32, 1), tokenizer.sep_token_id)
            row = torch.cat([first, ids, last], 1)
            labels, hidden = torch.full_like(row, -100), row.clone()
            place = torch.randint(1, 7, (32, 1))
            labels.scatter_(1, place, row.gather(1, place))
            hidden.scatter_(1, place, tokenizer.mask_token_id)
            loss = model(input_ids=hidden, labels=labels).loss
        else:
            ids = (torch.randint(0, 26, (32, 1)) + torch.arange(12)) % 26
            loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The sealed folder of a trained tiny model of a kind, made once a session."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            import torch

            from distill_deploy import save

            torch.manual_seed(0)
            tokenizer = make_tokenizer(kind)
            model = make_model(kind, tokenizer)
            train(kind, model, tokenizer)
            made[kind] = save(model, tokenizer, tmp_path_factory.mktemp(kind) / "model")
        return made[kind]

    return make
