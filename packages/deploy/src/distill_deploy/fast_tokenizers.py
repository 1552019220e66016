"""Tokenizers that are only a sentencepiece model, made into a ``tokenizer.json`` that gives the same ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_NEVER = -1e6  # a score with which a piece is never chosen: real ones are above -30
_UNKNOWN = "\ue000"  # private use: in no vocabulary


def fast_tokenizer(tokenizer: Any) -> PreTrainedTokenizerFast | None:
    """A fast tokenizer that reads and writes as the slow ``tokenizer`` does; None where it cannot be made.

    The export compares both on every text that it is checked on.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import SLOW_TO_FAST_CONVERTERS, convert_slow_tokenizer

    name = type(tokenizer).__name__
    if name == "MarianTokenizer" and not tokenizer.separate_vocabs:
        made = _marian(tokenizer)
    elif name in SLOW_TO_FAST_CONVERTERS:
        made = convert_slow_tokenizer(tokenizer)
    else:
        return None
    fast: Any = PreTrainedTokenizerFast
    ready: PreTrainedTokenizerFast = fast(
        tokenizer_object=made,
        chat_template=tokenizer.chat_template,
        clean_up_tokenization_spaces=False,
        model_max_length=tokenizer.model_max_length,
        **{kind: str(text) for kind, text in tokenizer.special_tokens_map.items() if isinstance(text, str)},
    )
    return ready


def _marian(tokenizer: Any) -> Any:
    """Marian cuts with the pieces of its source and numbers them by a vocabulary of both languages.

    Pieces of the target language keep their number and are never chosen; characters that only they have are
    unknown to the source.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = cast("Any", import_protobuf)().ModelProto.FromString(
        tokenizer.spm_source.serialized_model_proto()
    )
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == piece.NORMAL}
    vocabulary = sorted(tokenizer.encoder, key=tokenizer.encoder.__getitem__)
    made = Tokenizer(
        models.Unigram(
            [(piece, scores.get(piece, _NEVER)) for piece in vocabulary],
            unk_id=tokenizer.encoder[tokenizer.unk_token],
            byte_fallback=False,
        )
    )
    foreign = {letter for piece in vocabulary for letter in piece} - {
        one for piece in scores for one in piece
    }
    steps: list[Any] = []
    if proto.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
    steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    steps += [normalizers.Replace(letter, _UNKNOWN) for letter in sorted(foreign - {" "})]
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    made.decoder = decoders.Sequence(
        [
            decoders.Metaspace(prepend_scheme="always", split=False),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    end = tokenizer.eos_token
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.encoder[end])]
    )
    made.add_tokens(
        [AddedToken(code, normalized=False, special=False) for code in tokenizer.supported_language_codes]
    )
    return made
