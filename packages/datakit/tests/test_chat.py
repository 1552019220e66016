"""Conversations: what the assistant says is learnt, whatever the template."""

from functools import cache
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_datakit import (
    DataError,
    SpecialTokensWarning,
    TokenizerError,
    load_data,
    tokenize,
    train_tokenizer,
)
from distill_datakit.chat import ChatEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|endoftext|>\n{% endgeneration %}{% else %}{{ m['content'] }}<|endoftext|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# As Llama 2 writes it: contents stripped, roles must alternate, no prompt of its own for the answer.
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}"
    "[INST] {{ m['content'] | trim }} [/INST]{% else %} {{ m['content'] | trim }} <|endoftext|>{% endif %}"
    "{% endfor %}"
)
# As Qwen 3 writes it: the last answer opens with empty reasoning, earlier ones do not.
REASONING = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' and loop.last %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m['content'].split('</think>')[-1].lstrip('\n') }}<|endoftext|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TURNS = st.lists(
    st.one_of(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), st.just(f"a{END}b")),
    min_size=2,
    max_size=6,
)


@cache
def chat_tokenizer() -> "PreTrainedTokenizerFast":
    """A byte-level tokenizer, made once: decoding gives back every text exactly."""
    return train_tokenizer(["the cat"], kind="bpe", size=270, special_tokens=[END])


def conversation(turns: list[str]) -> list[dict[str, str]]:
    """User and assistant in turn."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]


def said(ids: list[int], labels: list[int]) -> list[str]:
    """The texts of the runs of labels; every label must be the id at its own position."""
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    runs: list[list[int]] = [[]]
    for label in labels:
        if label == -100:
            runs.append([])
        else:
            runs[-1].append(label)
    return [str(chat_tokenizer().decode(run)) for run in runs if run]


@settings(max_examples=40, deadline=None)
@given(turns=TURNS)
def test_what_is_learnt_reads_as_the_assistants_turns(turns: list[str]) -> None:
    """Without generation markers; the rest is fed and not learnt, and special tokens in contents are text."""
    bpe, messages = chat_tokenizer(), conversation(turns)
    ids, labels, escaped = ChatEncoder(bpe, CHATML)(messages)
    assert said(ids, labels) == [f"{text}{END}\n" for text in turns[1::2]]
    assert bpe.decode(ids) == bpe.apply_chat_template(messages, chat_template=CHATML, tokenize=False)
    assert ids.count(bpe.eos_token_id) == len(turns)
    assert escaped == any(END in text for text in turns)


@settings(max_examples=20, deadline=None)
@given(turns=TURNS)
def test_markers_and_their_absence_teach_the_same(turns: list[str]) -> None:
    """The same template with and without {% generation %}; transformers' own mask is the oracle."""
    bpe, messages = chat_tokenizer(), conversation([text.replace(END, "") or "a" for text in turns])
    with_markers = ChatEncoder(bpe, MARKED)(messages)
    assert with_markers == ChatEncoder(bpe, CHATML)(messages)
    theirs = bpe.apply_chat_template(
        messages, chat_template=MARKED, return_dict=True, return_assistant_tokens_mask=True
    )
    assert [int(label != -100) for label in with_markers[1]] == list(
        cast("dict[str, list[int]]", theirs)["assistant_masks"]
    )


@pytest.mark.parametrize("template", [ALTERNATING, REASONING])
@settings(max_examples=20, deadline=None)
@given(turns=TURNS)
def test_templates_that_trim_refuse_or_rewrite_teach_the_turns_too(template: str, turns: list[str]) -> None:
    """What is learnt is each answer as the template writes it, its end included, and no word of the user."""
    messages = conversation([f"{'uv'[n % 2]}{text}" for n, text in enumerate(turns)])
    learnt = said(*ChatEncoder(chat_tokenizer(), template)(messages)[:2])
    assert len(learnt) == len(turns[1::2])
    for got, message in zip(learnt, messages[1::2], strict=True):
        assert got.removesuffix("\n").removesuffix(END).strip() == (
            message["content"].strip() if template is ALTERNATING or message is not messages[-1]
            else f"<think>\n\n</think>\n\n{message['content'].strip()}"
        ).strip()  # fmt: skip
        assert END in got


def test_a_special_token_in_a_message_stays_text_or_becomes_the_token() -> None:
    """Escaped by default, with a warning that counts; kept where that is asked for."""
    bpe = chat_tokenizer()
    data = load_data([{"messages": conversation([f"what is {END}?", f"{END} ends"])}])
    with pytest.warns(SpecialTokensWarning, match="1 texts"):
        row = tokenize(data, bpe, "causal", chat_template=CHATML).data[0]
    assert row["input_ids"].count(bpe.eos_token_id) == 2
    kept = tokenize(data, bpe, "causal", chat_template=CHATML, escape_special_tokens=False).data[0]
    assert kept["input_ids"].count(bpe.eos_token_id) == 4
    assert bpe.decode(kept["input_ids"]) == bpe.decode(row["input_ids"])


def test_teacher_and_student_read_the_same_rows_in_their_own_templates() -> None:
    """Row numbers and what the assistant says agree; the frame around it and the fingerprint do not."""
    data = load_data([{"messages": conversation([f"q{n}", f"a{n}"])} for n in range(3)])
    student, teacher = (
        tokenize(data, chat_tokenizer(), "causal", chat_template=template)
        for template in (CHATML, ALTERNATING)
    )
    assert student.data["row_id"][:] == teacher.data["row_id"][:]
    for first, second in zip(student.data, teacher.data, strict=True):
        ours, theirs = (said(row["input_ids"], row["labels"]) for row in (first, second))
        assert ours[0].replace(END, "").strip() == theirs[0].replace(END, "").strip()
        assert first["input_ids"] != second["input_ids"]
    fields = {name for name, value in student.fingerprint.items() if teacher.fingerprint[name] != value}
    assert fields == {"template"}


def test_chats_that_cannot_be_told_apart_are_refused(symbols: "PreTrainedTokenizerFast") -> None:
    """No template; one that refuses the roles or rewrites contents; none of it the assistant's."""
    bpe, good = chat_tokenizer(), conversation(["a", "b", "c", "d"])
    with pytest.raises(TokenizerError, match="chat template"):
        tokenize(load_data([{"messages": good}]), symbols, "causal")
    with pytest.raises(DataError, match=r"row 2, field 'messages': the chat template refuses .* alternate"):
        tokenize(
            load_data([{"messages": good}, {"messages": good[1:]}]), bpe, "causal", chat_template=ALTERNATING
        )
    doubled = "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{{ loop.length }}{% endfor %}"
    with pytest.raises(DataError, match=r"row 1.*message 2 differently"):
        tokenize(load_data([{"messages": good}]), bpe, "causal", chat_template=doubled)
    with pytest.raises(DataError, match="none of 1 rows"):
        tokenize(load_data([{"messages": good[:1]}]), bpe, "causal", chat_template=CHATML)


def test_slow_tokenizers_cannot_read_chats() -> None:
    """Only a fast one says where a token stands."""
    from transformers import ByT5Tokenizer

    with pytest.raises(TokenizerError, match="fast tokenizer"):
        ChatEncoder(ByT5Tokenizer(), CHATML)
