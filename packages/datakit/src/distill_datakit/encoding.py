"""How a batch of raw rows becomes ids and labels: the settings, and the encoder that follows them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from distill_datakit.chat import ChatEncoder, Messages
from distill_datakit.columns import IGNORED, Task, check_task, training_columns
from distill_datakit.errors import DataError, OptionError, TokenizerError
from distill_datakit.hashing import digest, tokenizer_digest
from distill_datakit.parallel import Columns
from distill_datakit.special_tokens import SpecialTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Side = Literal["left", "right"]


class TokenizeOptions(TypedDict, total=False):
    """How a row becomes ids: the options that ``tokenize``, ``tokenize_to_disk`` and ``check_data`` share.

    Attributes:
        max_source_length: The limit of the input in tokens: of the seq2seq source, of the causal prompt, and
            of a whole row of ``text`` or ``messages``. By default nothing is cut, whatever limit the
            tokenizer names.
        max_target_length: The limit of the target or completion in tokens. By default nothing is cut.
        cut_source: The side on which a long input loses tokens, ``"left"`` or ``"right"``. By default prompts
            lose tokens on the left and all other inputs on the right.
        cut_target: The side on which a long target or completion loses tokens. The ``truncation_side`` of
            the tokenizer is never used.
        prefix: A text that is put before each seq2seq source, such as T5's ``"translate English to
            German: "``.
        source_language: The code of the source's language, for tokenizers that mark it (mBART, NLLB,
            M2M100). The default is the language that the tokenizer is set to.
        target_language: The code of the target's language. The default is the language that the tokenizer
            is set to.
        span_corruption: Whether seq2seq rows of ``text`` get no labels, because the collator makes both
            sides from them.
        escape_special_tokens: Whether special tokens that are written in a text, such as ``"</s>"``, stay
            text. If False, they become the tokens.
        chat_template: A chat template that replaces the tokenizer's own, so that teacher and student may
            read different ones.
    """

    max_source_length: int | None
    max_target_length: int | None
    cut_source: Side | None
    cut_target: Side
    prefix: str
    source_language: str | None
    target_language: str | None
    span_corruption: bool
    escape_special_tokens: bool
    chat_template: str | None


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """The checked options of ``tokenize``, as ``TokenizeOptions`` describes them."""

    task: Task
    max_source_length: int | None = None
    max_target_length: int | None = None
    cut_source: Side | None = None
    cut_target: Side = "right"
    prefix: str = ""
    source_language: str | None = None
    target_language: str | None = None
    span_corruption: bool = False
    escape_special_tokens: bool = True
    chat_template: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without data and tokenizer."""
        check_task(self.task)
        for name in ("max_source_length", "max_target_length"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise OptionError(
                    f"{name}={limit}: at least 1 token is needed, or None for no limit.",
                    field=name, found=limit, suggestion=1)  # fmt: skip
        for name, sides in (("cut_source", (None, "left", "right")), ("cut_target", ("left", "right"))):
            if getattr(self, name) not in sides:
                raise OptionError.of(name, getattr(self, name), sides)
        if self.task != "seq2seq":
            for field in ("prefix", "source_language", "target_language", "span_corruption"):
                found, default = getattr(self, field), getattr(type(self), field)
                if found:
                    raise OptionError(
                        f"{field}={found!r} is for seq2seq; task is {self.task!r}. Leave it out.",
                        field=field, found=found, allowed=(default,), suggestion=default)  # fmt: skip


class Encoder:
    """Turns batches of raw rows into ids and labels; picklable, so that other processes can do so too.

    Args:
        tokenizer: Any transformers tokenizer.
        settings: The task and its options.
        names: The columns of the data.

    Raises:
        DataError: The columns do not suit the task.
        TokenizerError: The tokenizer does not suit the task.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", settings: TokenizeConfig, names: Sequence[str]
    ) -> None:
        self.tokenizer, self.settings = tokenizer, _with_languages(settings, tokenizer)
        self.fields = training_columns(settings.task, names, span_corruption=settings.span_corruption)
        if settings.task == "causal" and self.fields != ("messages",) and tokenizer.eos_token_id is None:
            raise TokenizerError(
                "a causal model needs an end-of-text token, which is missing. Set tokenizer.eos_token.",
                field="tokenizer.eos_token")  # fmt: skip
        self._adds_end = settings.task == "seq2seq" and self._lacks_end()
        self.labelled = settings.task != "masked" and not settings.span_corruption
        self.has_words = settings.task == "masked" and bool(tokenizer.is_fast)
        self._specials = SpecialTokens(tokenizer)
        self._chat = (
            ChatEncoder(tokenizer, settings.chat_template, escape=settings.escape_special_tokens)
            if self.fields == ("messages",)
            else None
        )
        self.fingerprint = self._fingerprint()

    def __call__(self, batch: Mapping[str, Sequence[object]], first_row: int = 1) -> tuple[Columns, int]:
        """Columns of ids, and how many texts hold special tokens that were escaped.

        Raises:
            DataError: A conversation that cannot be rendered; its row is counted from ``first_row``.
        """
        self._escaped = 0
        with _spoken(self.tokenizer, self.settings):
            if self._chat is not None:
                columns = self._chats(cast("Sequence[Messages]", batch["messages"]), first_row)
            else:
                first, *second = (cast("list[str]", list(batch[name])) for name in self.fields)
                if self.settings.task == "causal":
                    columns = self._causal_pairs(first, second[0]) if second else self._causal_texts(first)
                else:
                    columns = self._inputs(first)
                    if second:
                        columns["labels"] = self._targets(second[0])
        return columns, self._escaped

    def _fingerprint(self) -> dict[str, str]:
        settings = asdict(self.settings) | {"chat_template": None, "fields": self.fields}
        settings |= {"adds_end": True} if self._adds_end else {}
        with _spoken(self.tokenizer, self.settings):
            return {
                "preprocessing": digest(settings),
                "tokenizer": tokenizer_digest(self.tokenizer),
                "template": digest(self._chat.template if self._chat else None),
                "masking": digest("none" if self.labelled else "dynamic"),
            }

    def _encode(
        self, texts: list[str], limit: int | None, side: Side, *, target: bool = False, frame: bool = True
    ) -> Columns:
        self.tokenizer.truncation_side = side
        # text_target: some tokenizers (Marian's, mBART's) read the two sides differently.
        name = "text_target" if target else "text"

        def call(some: list[str], **more: bool) -> Columns:
            encoded = self.tokenizer(
                **{name: some}, truncation=limit is not None, max_length=limit, add_special_tokens=frame,
                return_attention_mask=True, verbose=False, **more)  # fmt: skip
            columns = {key: [list(ids) for ids in encoded[key]] for key in ("input_ids", "attention_mask")}
            if self.has_words:
                columns["word_ids"] = [
                    [-1 if word is None else word for word in encoded.word_ids(n)] for n in range(len(some))
                ]
            return columns

        columns = call(texts) if texts else {"input_ids": [], "attention_mask": []}
        if self.settings.escape_special_tokens:
            for number, text in enumerate(texts):
                if self._specials.found(text):
                    self._escaped += 1
                    for key, rows in call([self._specials.plain(text)], split_special_tokens=True).items():
                        columns[key][number] = rows[0]
        return columns

    def _inputs(self, texts: list[str]) -> Columns:
        """The input of a seq2seq or masked model, framed as the tokenizer does it."""
        given = [self.settings.prefix + text for text in texts] if self.settings.prefix else texts
        return self._encode(given, self.settings.max_source_length, self.settings.cut_source or "right")

    def _targets(self, texts: list[str]) -> list[list[int]]:
        """The labels of a seq2seq model, with an end that no limit takes away."""
        limit, side = self.settings.max_target_length, self.settings.cut_target
        if not self._adds_end:
            return self._encode(texts, limit, side, target=True)["input_ids"]
        kept = None if limit is None else limit - 1
        rows = self._encode(texts, kept or None, side, target=True)["input_ids"]
        return [[*(ids if kept != 0 else []), self._eos] for ids in rows]

    def _lacks_end(self) -> bool:
        """Whether the tokenizer closes a target neither with an end token nor with a separator.

        Raises:
            TokenizerError: It does not, and has no end token that could be added.
        """
        tokenizer = self.tokenizer
        with _spoken(tokenizer, self.settings):
            frame = cast("list[int]", tokenizer(text_target="", verbose=False)["input_ids"])
        if {tokenizer.eos_token_id, tokenizer.sep_token_id}.intersection(frame):
            return False
        if tokenizer.eos_token_id is None:
            raise TokenizerError(
                "a seq2seq model needs an end token behind its targets, and this tokenizer has none. Set "
                "tokenizer.eos_token.", field="tokenizer.eos_token")  # fmt: skip
        return True

    def _causal_texts(self, texts: list[str]) -> Columns:
        rows = [[*ids, self._eos] for ids in self._unended(texts)]
        rows = [
            _cut(ids, self.settings.max_source_length, self.settings.cut_source or "right") for ids in rows
        ]
        return _causal(rows, [list(ids) for ids in rows])

    def _causal_pairs(self, prompts: list[str], completions: list[str]) -> Columns:
        settings = self.settings
        before = [
            _cut(ids, settings.max_source_length, settings.cut_source or "left")
            for ids in self._unended(prompts)
        ]
        after = [
            _cut([*ids, self._eos], settings.max_target_length, settings.cut_target)
            for ids in self._encode(completions, None, "right", frame=False)["input_ids"]
        ]
        rows = [first + second for first, second in zip(before, after, strict=True)]
        labels = [[IGNORED] * len(first) + second for first, second in zip(before, after, strict=True)]
        return _causal(rows, labels)

    def _chats(self, conversations: Sequence[Messages], first_row: int) -> Columns:
        assert self._chat is not None  # noqa: S101 - called only then
        limit, side = self.settings.max_source_length, self.settings.cut_source or "right"
        rows, labels = [], []
        for row, messages in enumerate(conversations, start=first_row):
            try:
                ids, learnt, escaped = self._chat(messages)
            except DataError as error:
                raise error.at(None, row, "messages") from error
            self._escaped += escaped
            rows.append(_cut(ids, limit, side))
            labels.append(_cut(learnt, limit, side))
        return _causal(rows, labels)

    @property
    def _eos(self) -> int:
        return int(cast("int", self.tokenizer.eos_token_id))

    def _unended(self, texts: list[str]) -> list[list[int]]:
        """Without the end that some tokenizers append; a sole token is kept."""
        rows = self._encode(texts, None, "right")["input_ids"]
        return [ids[:-1] if len(ids) > 1 and ids[-1] == self._eos else ids for ids in rows]


def _causal(rows: list[list[int]], labels: list[list[int]]) -> Columns:
    return {"input_ids": rows, "attention_mask": [[1] * len(ids) for ids in rows], "labels": labels}


def _cut(ids: list[int], limit: int | None, side: Side) -> list[int]:
    if limit is None or len(ids) <= limit:
        return ids
    return ids[-limit:] if side == "left" else ids[:limit]


def _with_languages(settings: TokenizeConfig, tokenizer: "PreTrainedTokenizerBase") -> TokenizeConfig:
    """The settings with the languages that the tokenizer itself is set to, all of them known to it."""
    given = (settings.source_language, settings.target_language)
    if not hasattr(tokenizer, "src_lang"):
        if any(given):
            raise TokenizerError(
                f"languages {given} were given, but {type(tokenizer).__name__} knows no language codes. "
                "Leave source_language and target_language out, or write a prefix.",
                field="source_language" if given[0] else "target_language",
                found=given[0] or given[1], allowed=(None,))  # fmt: skip
        return settings
    if settings.task != "seq2seq":
        return settings
    source = settings.source_language or tokenizer.src_lang
    target = settings.target_language or getattr(tokenizer, "tgt_lang", None)
    vocabulary = tokenizer.get_vocab()
    for name, code in (("source_language", source), ("target_language", target)):
        if code is None or not {code, f"__{code}__"} & vocabulary.keys():  # M2M100 writes __en__
            found = "is missing" if code is None else f"{code!r} is not one of its codes"
            raise TokenizerError(
                f"{type(tokenizer).__name__} marks texts with their language: {name} {found}. Give both, as "
                "'en_XX' (mBART), 'eng_Latn' (NLLB) or 'en' (M2M100).",
                field=name, found=code)  # fmt: skip
    return replace(settings, source_language=source, target_language=target)


@contextmanager
def _spoken(tokenizer: "PreTrainedTokenizerBase", settings: TokenizeConfig) -> Iterator[None]:
    """Set the tokenizer to the languages of the data, and leave it as it was."""
    languages = {"src_lang": settings.source_language, "tgt_lang": settings.target_language}
    wanted = {name: code for name, code in languages.items() if code is not None}
    before = {name: getattr(tokenizer, name) for name in ("truncation_side", *wanted)}
    try:
        for name, code in wanted.items():
            setattr(tokenizer, name, code)
        yield
    finally:
        for name, value in before.items():
            setattr(tokenizer, name, value)
