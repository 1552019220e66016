"""Make a tokenizer from the training text itself."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from distill_datakit.errors import TokenizerError, nearest

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

TokenizerKind = Literal["symbols", "wordpiece", "bpe", "unigram"]
KINDS: tuple[TokenizerKind, ...] = ("symbols", "wordpiece", "bpe", "unigram")
_ROLES = {
    "</s>": "eos_token",
    "<eos>": "eos_token",
    "<|endoftext|>": "eos_token",
    "<s>": "bos_token",
    "<bos>": "bos_token",
    "<unk>": "unk_token",
    "[UNK]": "unk_token",
    "<pad>": "pad_token",
    "[PAD]": "pad_token",
    "[CLS]": "cls_token",
    "[SEP]": "sep_token",
    "[MASK]": "mask_token",
    "<mask>": "mask_token",
}
_SPECIALS: dict[str, tuple[str, ...]] = {
    "symbols": ("</s>", "<unk>", "<pad>"),
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "bpe": ("<|endoftext|>", "<pad>"),
    "unigram": ("<pad>", "</s>", "<unk>"),
}


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: TokenizerKind = "symbols",
    size: int | None = None,
    special_tokens: Sequence[str] | None = None,
    targets: Iterable[str] | None = None,
) -> "PreTrainedTokenizerFast":
    """Train an ordinary fast tokenizer, whose ``save_pretrained`` makes a folder for ``AutoTokenizer``.

    ``symbols`` is for sequences of symbols, as letters to phonemes: one vocabulary of the characters of
    ``texts``, then the blank-separated symbols of ``targets``, then the special tokens, ``<pad>`` last.
    Decoding joins the symbols with blanks. Blanks of a source text are not kept. The other kinds learn
    subwords from ``texts`` and ``targets``: ``wordpiece`` for masked models, ``bpe`` (byte level) for
    causal ones, ``unigram`` for seq2seq.

    Args:
        texts: Source texts.
        kind: The kind of tokenizer.
        size: The vocabulary size of the subword kinds, including special tokens; 8,000 by default. Not for
            ``symbols``, whose vocabulary is the symbols that occur.
        special_tokens: Special tokens that replace those of the kind. Their roles (end, padding...) follow
            from the usual names.
        targets: Target texts.

    Returns:
        The tokenizer. ``symbols`` and ``unigram`` append ``</s>``; ``wordpiece`` puts a text between
        ``[CLS]`` and ``[SEP]``.

    Raises:
        TokenizerError: There is no text; the kind is unknown; a size is given for ``symbols``; a special
            token has no known role, or a needed one is missing; for ``symbols``, a word of a source text is
            also a target symbol of several characters, so that it would be read as that symbol.

    Example:
        >>> from distill_datakit import train_tokenizer
        >>> tokenizer = train_tokenizer(["cat", "dog"], targets=["K AE T", "D AO G"])
        >>> tokenizer.tokenize("cat"), tokenizer.tokenize("K AE T")
        (['c', 'a', 't'], ['K', 'AE', 'T'])
    """
    from transformers import PreTrainedTokenizerFast as Fast

    _check_kind(kind, size)
    sources, goals = list(texts), list(targets or ())
    if not any(text.strip() for text in sources):
        raise TokenizerError("there is no text to train a tokenizer from.", field="texts")
    specials = tuple(special_tokens) if special_tokens is not None else _SPECIALS[kind]
    _check_known(specials)
    if kind == "symbols":
        backend = _symbols(sources, goals, specials)
    else:
        backend = _subwords([*sources, *goals], kind, size or 8000, specials)
    roles = {_ROLES[token]: token for token in specials}
    if kind == "bpe":
        roles |= {"bos_token": roles["eos_token"], "unk_token": roles["eos_token"]}
    return Fast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        **{"padding_side": "right", "truncation_side": "right", **roles},
    )


def _check_kind(kind: str, size: int | None) -> None:
    if kind not in KINDS:
        raise TokenizerError(
            f"kind={kind!r}: allowed are {', '.join(KINDS)}.",
            field="kind", found=kind, allowed=KINDS, suggestion=nearest(kind, KINDS) or KINDS[0])  # fmt: skip
    if kind == "symbols" and size is not None:
        raise TokenizerError(
            "kind='symbols' takes no size: its vocabulary is the symbols that occur.",
            field="size", found=size, allowed=(None,))  # fmt: skip


def _check_known(specials: tuple[str, ...]) -> None:
    unknown = [token for token in specials if token not in _ROLES]
    if unknown:
        raise TokenizerError(
            f"special token {unknown[0]!r} has no known role; known are {', '.join(_ROLES)}.",
            field="special_tokens", found=unknown[0], allowed=tuple(_ROLES),
            suggestion=nearest(unknown[0], _ROLES))  # fmt: skip


def _check_roles(kind: str, needed: tuple[str, ...], specials: tuple[str, ...]) -> None:
    roles = {_ROLES[token] for token in specials}
    for role in needed:
        if role not in roles:
            tokens = tuple(token for token, its in _ROLES.items() if its == role)
            raise TokenizerError(
                f"kind={kind!r} needs a special token for {role}, one of {', '.join(tokens)}; given are "
                f"{', '.join(specials) or 'none'}.",
                field="special_tokens", found=specials, allowed=tokens, suggestion=tokens[0])  # fmt: skip


def _symbols(sources: list[str], targets: list[str], specials: tuple[str, ...]) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    roles = {_ROLES[token]: token for token in specials}
    _check_roles("symbols", ("eos_token", "unk_token", "pad_token"), specials)
    characters = sorted({character for text in sources for character in text if not character.isspace()})
    symbols = sorted({symbol for text in targets for symbol in text.split()})
    clash = next((token for token in specials for text in (*sources, *targets) if token in text), None)
    if clash:
        raise TokenizerError(
            f"{clash!r} occurs in the texts and is a special token. Give other special_tokens.",
            field="special_tokens", found=clash)  # fmt: skip
    long = {symbol for symbol in symbols if len(symbol) > 1}
    for number, text in enumerate(sources, start=1):
        both = long.intersection(text.split())
        if both:
            raise TokenizerError(
                f"source text {number} ({text[:40]!r}) holds {min(both)!r}, also a target symbol: it would "
                "be read as one symbol, not as characters. Write one side differently, as in lower case.",
                field="texts", found=min(both))  # fmt: skip
    ordered = list(
        dict.fromkeys(
            [*characters, *symbols, *(s for s in specials if s != roles["pad_token"]), roles["pad_token"]]
        )
    )
    vocabulary = {token: index for index, token in enumerate(ordered)}
    backend = Tokenizer(WordLevel(vocabulary, unk_token=roles["unk_token"]))
    choice = "|".join(re.escape(symbol) for symbol in sorted(long, key=lambda symbol: (-len(symbol), symbol)))
    pattern = rf"(?<!\S)(?:{choice})(?!\S)|\S" if long else r"\S"
    # Inverted and removed: what the pattern does not match (blanks) goes, each match is a piece.
    backend.pre_tokenizer = Split(Regex(pattern), behavior="removed", invert=True)
    backend.add_special_tokens([_added(token) for token in ordered if token in specials])
    _append(backend, roles["eos_token"])
    return backend


def _append(backend: "Tokenizer", eos: str) -> None:
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = TemplateProcessing(
        single=f"$A {eos}",
        pair=f"$A {eos} $B:1 {eos}:1",
        special_tokens=[(eos, backend.token_to_id(eos))],
    )


def _added(token: str) -> "AddedToken":
    from tokenizers import AddedToken

    return AddedToken(token, special=True, normalized=False)


def _subwords(texts: list[str], kind: str, size: int, specials: tuple[str, ...]) -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    roles = {_ROLES[token]: token for token in specials}
    needed = {
        "wordpiece": ("unk_token", "cls_token", "sep_token", "mask_token", "pad_token"),
        "bpe": ("eos_token",),
        "unigram": ("unk_token", "eos_token", "pad_token"),
    }[kind]
    _check_roles(kind, needed, specials)
    given = [_added(token) for token in specials]
    trainer: trainers.Trainer
    if kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token=roles["unk_token"]))
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=given, show_progress=False)
    elif kind == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=given, initial_alphabet=alphabet, show_progress=False
        )
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=given, unk_token=roles["unk_token"], show_progress=False
        )
    backend.train_from_iterator(texts, trainer=trainer)
    if kind == "wordpiece":
        first, last = roles["cls_token"], roles["sep_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {last} $B:1 {last}:1",
            special_tokens=[(token, backend.token_to_id(token)) for token in (first, last)],
        )
    elif kind == "unigram":
        _append(backend, roles["eos_token"])
    return backend
