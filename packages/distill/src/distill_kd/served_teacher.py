"""A teacher behind an HTTP server, which gives its most likely tokens."""

import json
import logging
import math
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from distill_kd.config import check_positive
from distill_kd.errors import ConfigError, ServedTeacherError, unknown
from distill_kd.teachers import TopKTarget

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)
_AGAIN = frozenset({429, 500, 502, 503, 504})  # the server is busy, or starting
Interface = Literal["vllm", "sglang"]
INTERFACES: tuple[str, ...] = get_args(Interface)


class ServedTeacher:
    """A causal model of vLLM or SGLang, as a :class:`distill_kd.Teacher` to be written into a cache.

    Token ids are sent and received, so nothing is tokenized twice. "vllm" uses the OpenAI-compatible
    ``/v1/completions`` with ``prompt_logprobs``; a server of that interface that does not support them is
    refused. SGLang names tokens by their text there, which is ambiguous, so "sglang" uses its own
    ``/generate``.

    Args:
        url: Address of the server, such as ``http://localhost:8000``.
        model: The name under which the server offers the model.
        tokenizer: The tokenizer of the model; ids that it does not have are refused.
        k: Number of most likely tokens to request at each position. vLLM allows 20 unless it was started with
            a larger ``--max-logprobs``.
        interface: "vllm" or "sglang".
        api_key: Sent as a bearer token; it is not written anywhere.
        timeout_s: Timeout of one request in seconds.
        retries: How often a request is repeated when the server is busy or unreachable, after 1, 2, 4 ...
            seconds.

    Raises:
        ConfigError: The interface is unknown, ``k`` is below 1, or the URL is not one of HTTP.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        tokenizer: "PreTrainedTokenizerBase",
        k: int = 20,
        interface: Interface = "vllm",
        api_key: str | None = None,
        timeout_s: float = 600.0,
        retries: int = 5,
    ) -> None:
        if interface not in INTERFACES:
            raise unknown("interface", interface, INTERFACES)
        check_positive("k", k)
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"url = {url!r} is not a valid address of a server; it begins with http:// or https://.",
                field="url",
                found=url,
                suggestion=f"http://{url}",
            )
        self.url, self.name, self.tokenizer, self.k = url.rstrip("/").removesuffix("/v1"), model, tokenizer, k
        self.interface, self.timeout_s, self.retries = interface, timeout_s, retries
        self.fingerprint = {"model": f"{model}, served by {interface}", "dtype": "the server's"}
        self._api_key = api_key
        self._size = max(tokenizer.get_vocab().values()) + 1

    def target(self, batch: Mapping[str, Tensor]) -> TopKTarget:
        """Ask for all rows of a batch in one request.

        Args:
            batch: ``input_ids`` and, where there is padding, ``attention_mask``: ``(batch, seq)``.

        Returns:
            At each position what the server expects at the next; zeros where nothing follows.

        Raises:
            ServedTeacherError: The server refuses, is away, or answers something else.
        """
        ids = batch["input_ids"]
        kept = batch["attention_mask"].bool() if "attention_mask" in batch else torch.ones_like(ids).bool()
        rows = [row[real].tolist() for row, real in zip(ids.cpu(), kept.cpu(), strict=True)]
        answers = self._vllm(rows) if self.interface == "vllm" else self._sglang(rows)
        tokens = torch.zeros(*ids.shape, self.k, dtype=torch.int64)
        log_probs, tail = torch.zeros(*ids.shape, self.k), torch.zeros(ids.shape)
        for at, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            where = kept[at].cpu().nonzero()[:-1, 0]  # the last token has no next
            if len(answer) != len(row):
                raise ServedTeacherError(
                    f"{self.url} answered {len(answer)} positions for a row of {len(row)} tokens. Is it cut? "
                    "Raise the server's longest sequence (max_model_len)."
                )
            found = [self._likeliest(pairs) for pairs in answer[1:]]
            if found:
                tokens[at, where] = torch.tensor([[token for token, _ in pairs] for pairs in found])
                log_probs[at, where] = torch.tensor([[value for _, value in pairs] for pairs in found])
                tail[at, where] = torch.tensor([_rest(pairs) for pairs in found])
        return TopKTarget(tokens.to(ids.device), log_probs.to(ids.device), tail.to(ids.device))

    def _likeliest(self, pairs: list[tuple[int, float]]) -> list[tuple[int, float]]:
        """The k most likely of what came for a position: the token that is there may have come as well."""
        best = sorted(pairs, key=lambda pair: -pair[1])[: self.k]
        if len(best) < self.k:
            raise ServedTeacherError(
                f"{self.k} tokens were asked for at each position and {self.url} gave {len(best)}. Ask for "
                f"k = {len(best)}, or start vLLM with --max-logprobs {self.k}.",
                field="k",
                found=self.k,
                suggestion=len(best),
            )
        beyond = max(token for token, _ in best)
        if beyond >= self._size:
            raise ServedTeacherError(
                f"{self.url} gave the id {beyond}, and the tokenizer has {self._size}: it serves a model of "
                "another tokenizer. Give ServedTeacher the tokenizer of that model.",
                field="tokenizer",
            )
        return best

    def _vllm(self, rows: list[list[int]]) -> list[list[list[tuple[int, float]]]]:
        """Pairs of id and log-probability at each position of each row; none at the first."""
        asked = {"model": self.name, "prompt": rows, "max_tokens": 1, "temperature": 1.0}
        choices = self._post("/v1/completions", {**asked, "prompt_logprobs": self.k})["choices"]
        answers = []
        for choice in sorted(choices, key=lambda choice: int(choice["index"])):
            if not choice.get("prompt_logprobs"):
                raise ServedTeacherError(
                    f"{self.url} gave no prompt_logprobs: it is not vLLM, or too old. For SGLang pass "
                    "interface='sglang'.",
                    field="interface",
                    found=self.interface,
                    suggestion="sglang",
                )
            answers.append(
                [
                    [(int(token), float(entry["logprob"])) for token, entry in (position or {}).items()]
                    for position in choice["prompt_logprobs"]
                ]
            )
        return answers

    def _sglang(self, rows: list[list[int]]) -> list[list[list[tuple[int, float]]]]:
        """Pairs of id and log-probability at each position of each row; none at the first."""
        wanted = {"return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": self.k}
        sampling = {"max_new_tokens": 1, "temperature": 1.0}
        answer = self._post("/generate", {"input_ids": rows, "sampling_params": sampling, **wanted})
        return [
            [
                [(int(entry[1]), float(entry[0])) for entry in position or []]
                for position in one["meta_info"]["input_top_logprobs"]
            ]
            for one in answer
        ]

    def _post(self, path: str, body: Mapping[str, object]) -> Any:
        """JSON for JSON; again when the server is busy."""
        headers = {"Content-Type": "application/json"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)  # noqa: S310
        for attempt in range(self.retries + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as response:  # noqa: S310
                    return json.load(response)
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}: {error.read(500).decode('utf-8', 'replace')}"
                if error.code not in _AGAIN:
                    raise ServedTeacherError(
                        f"{self.url}{path} refused: {why}", field="url", found=self.url
                    ) from error
            except (OSError, ValueError) as error:
                why = str(error)
            if attempt < self.retries:
                _LOG.warning("%s%s: %s; again in %d s", self.url, path, why, 2**attempt)
                time.sleep(2**attempt)
        raise ServedTeacherError(
            f"{self.url}{path} did not answer {self.retries + 1} times: {why}", field="url", found=self.url
        )


def _rest(pairs: list[tuple[int, float]]) -> float:
    """Log-probability of all tokens that are not among ``pairs``."""
    return math.log(max(1.0 - math.fsum(math.exp(value) for _, value in pairs), 1e-12))
