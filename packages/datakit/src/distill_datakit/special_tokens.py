"""Special tokens written out in somebody's text: found, and read as text and not as tokens."""

import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Unicode keeps these code points free for use inside a program: they stand in no text.
BREAK, FIRST_MARK, SECOND_MARK = "\ufdd0", "\ufdd1", "\ufdd2"


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    """Each special token with its id: those that have a role, and those that ``tokenizer.json`` marks.

    A control token such as Llama 3's ``<|start_header_id|>`` may be marked and have no role.
    """
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    marked = {str(one): number for number, one in tokenizer.added_tokens_decoder.items() if one.special}
    return {**{str(token): int(number) for token, number in named}, **marked}


class SpecialTokens:
    """The strings that a tokenizer reads as its special tokens wherever they stand.

    Args:
        tokenizer: Any transformers tokenizer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        found = special_tokens(tokenizer)
        strings = sorted(found, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, strings))) if strings else None
        self._ids = set(found.values()) - {tokenizer.unk_token_id}
        self._tokenizer = tokenizer

    def found(self, text: str) -> list[str]:
        """Each special token written out in a text, in order."""
        return self._pattern.findall(text) if self._pattern else []

    def broken(self, text: str, by: str) -> str:
        """The text with ``by`` put behind the first character of each special token in it."""
        while self._pattern and self._pattern.search(text):
            text = self._pattern.sub(lambda match: match[0][0] + by + match[0][1:], text)
        return text

    def plain(self, text: str) -> str:
        """The text as it must be given to the tokenizer with ``split_special_tokens=True``.

        A Unigram vocabulary holds ``</s>`` as an ordinary piece too, so that splitting does not help; there
        a blank is put in: ``< /s>``.
        """
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids = cast("list[int]", encoded["input_ids"])
        return self.broken(text, " ") if self._ids.intersection(ids) else text
