"""A teacher behind a server of vLLM's or SGLang's interface is asked, cached and refused like another."""

import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from distill_kd import (
    CacheConfig,
    CachedTeacher,
    CacheError,
    LiveTeacher,
    ServedTeacher,
    ServedTeacherError,
    TopKTarget,
    cache_fingerprint,
    write_cache,
)

LARGEST = 20  # vLLM's --max-logprobs, when nothing is said


class Server(ThreadingHTTPServer):
    """A tiny model behind both interfaces; ``busy`` requests are turned away first."""

    def __init__(self, model: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.busy, self.fault = model, 0, ""
        self.keys: list[str | None] = []

    def likeliest(self, row: list[int], k: int) -> list[Any]:
        """For each token of a row, what was expected there: (id, log-probability), none for the first."""
        with torch.no_grad():
            log_probs = self.model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
        top, ids = log_probs.topk(k)
        expected = [list(zip(ids[at].tolist(), top[at].tolist(), strict=True)) for at in range(len(row) - 1)]
        for at, pairs in enumerate(expected):  # the token that is there always comes as well
            there = row[at + 1]
            if there not in dict(pairs):
                pairs.append((there, float(log_probs[at, there])))
        return [None, *expected]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, code: int, body: object) -> None:
        """As JSON."""
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_POST(self) -> None:
        """Both interfaces, in the shapes of the real ones."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.keys.append(self.headers.get("Authorization"))
        if server.busy:
            server.busy -= 1
            return self.answer(503, {"error": "loading"})
        k = body.get("prompt_logprobs") or body.get("top_logprobs_num")
        if k > LARGEST:
            return self.answer(400, {"error": f"Requested prompt logprobs of {k}, maximum is {LARGEST}"})
        rows = [server.likeliest(row, k) for row in body.get("prompt") or body["input_ids"]]
        if server.fault == "short":
            rows = [row[:-1] for row in rows]
        if server.fault == "foreign":
            rows = [[pairs and [(token + 100, at) for token, at in pairs] for pairs in row] for row in rows]
        if server.fault == "few":
            rows = [[pairs and pairs[:1] for pairs in row] for row in rows]
        if self.path == "/generate":
            return self.answer(200, [{"meta_info": {"input_top_logprobs": sglang(row)}} for row in rows])
        choices = [{"index": at, "text": "x", "prompt_logprobs": vllm(row)} for at, row in enumerate(rows)]
        if server.fault == "plain":
            choices = [{"index": 0, "text": "x", "logprobs": None}]
        return self.answer(200, {"object": "text_completion", "choices": choices[::-1]})


def sglang(row: list[Any]) -> list[Any]:
    """Triples of log-probability, id and text."""
    return [pairs and [[value, token, None] for token, value in pairs] for pairs in row]


def vllm(row: list[Any]) -> list[Any]:
    """Entries by id, which JSON makes a text."""
    entry = {"rank": 1, "decoded_token": "x"}
    return [pairs and {str(token): {"logprob": value, **entry} for token, value in pairs} for pairs in row]


@pytest.fixture(name="server")
def _server(make_model: Any) -> Iterator[Server]:
    """Serves until the test is over."""
    with Server(make_model("GPT2", seed=1).eval()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(name="served")
def _served(server: Server, make_tokenizer: Any) -> Any:
    """``served(**options)``: the teacher behind the server."""

    def served(**options: Any) -> ServedTeacher:
        options = {"k": 6, "retries": 0, **options}
        return ServedTeacher(
            f"http://127.0.0.1:{server.server_port}/v1", "tiny", tokenizer=make_tokenizer(), **options
        )

    return served


@pytest.mark.parametrize("interface", ["vllm", "sglang"])
def test_a_cache_of_a_server_is_that_of_its_model(
    interface: Any, server: Server, served: Any, make_rows: Any, collate: Any, tmp_path: Any
) -> None:
    """Both interfaces give the ids, probabilities and tails that the model itself gives."""
    rows = make_rows("causal", count=6)
    teacher = served(interface=interface, api_key="secret")
    report = write_cache(teacher, rows, collate, tmp_path / "served", task="causal")
    assert (report.k, report.kl_error, report.vocab_size) == (6, None, 24)
    assert str(report).endswith("KL error unknown")
    assert set(server.keys) == {"Bearer secret"}
    live = LiveTeacher(server.model, tokenizer=teacher.tokenizer)
    write_cache(live, rows, collate, tmp_path / "live", task="causal", config=CacheConfig(k=6))
    batch = collate(rows[::-1])
    first, second = (CachedTeacher(tmp_path / name).target(batch) for name in ("served", "live"))
    assert isinstance(first, TopKTarget)
    assert isinstance(second, TopKTarget)
    assert torch.equal(first.ids, second.ids)
    torch.testing.assert_close(first.log_probs, second.log_probs, rtol=0, atol=1e-2)
    torch.testing.assert_close(first.tail, second.tail, rtol=0, atol=1e-2)
    assert "secret" not in (tmp_path / "served" / "cache.json").read_text()


def test_a_served_teacher_says_who_it_is(served: Any) -> None:
    """The name and the interface stand where a live one's weights do."""
    fields = cache_fingerprint(served())
    assert fields["model"] == "tiny, served by vllm"
    assert fields["vocabulary"]


def test_a_busy_server_is_asked_again(server: Server, served: Any, make_rows: Any, collate: Any) -> None:
    """Until it answers, or the retries are used up."""
    batch = collate(make_rows("causal", count=1))
    server.busy = 1
    assert isinstance(served(retries=1).target(batch), TopKTarget)
    server.busy = 1
    with pytest.raises(ServedTeacherError, match="did not answer 1 times: HTTP 503"):
        served().target(batch)
    server.busy = 0
    away = served()
    away.url = "http://127.0.0.1:1"
    with pytest.raises(ServedTeacherError, match="did not answer 1 times"):
        away.target(batch)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("short", "answered 4 positions for a row of 5 tokens"),
        ("foreign", "serves a model of another tokenizer"),
        ("few", r"6 tokens were asked for at each position and .* gave 1"),
        ("plain", "gave no prompt_logprobs"),
    ],
)
def test_an_answer_that_is_not_one_is_refused(
    fault: str, message: str, server: Server, served: Any, make_rows: Any, collate: Any
) -> None:
    """With what came, and what to do."""
    server.fault = fault
    with pytest.raises(ServedTeacherError, match=message):
        served().target(collate(make_rows("causal", count=1)))


def test_what_a_server_cannot_give_is_refused(
    server: Server, served: Any, make_rows: Any, collate: Any, tmp_path: Any, make_tokenizer: Any
) -> None:
    """More tokens than it allows, an error budget, a temperature, an address that is none."""
    rows = make_rows("causal", count=2)
    with pytest.raises(ServedTeacherError, match=r"refused: HTTP 400: .*maximum is 20"):
        served(k=21).target(collate(rows))
    for config in (CacheConfig(max_kl_error=0.1), CacheConfig(temperature=2), CacheConfig(k=3)):
        with pytest.raises(CacheError, match="its 6 most likely tokens at temperature 1, and nothing else"):
            write_cache(served(), rows, collate, tmp_path / "cache", task="causal", config=config)
    for options, message in (({"k": 0}, "k = 0"), ({"interface": "tgi"}, "the valid ones are vllm, sglang")):
        with pytest.raises(ValueError, match=message):
            served(**options)
    with pytest.raises(ValueError, match="not a valid address"):
        ServedTeacher("localhost:8000", "tiny", tokenizer=make_tokenizer())
    error = pickle.loads(pickle.dumps(ServedTeacherError("gone")))  # noqa: S301 - our own
    assert str(error) == "gone"
