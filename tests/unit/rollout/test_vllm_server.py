"""The client of a vLLM server: what it asks, what it reads, and how it may be let down."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Iterator

import httpx
import pytest
import torch
from fixtures import tiny_tokenizer
from vllm_fake import FakeServer, FakeVLLM

from opcd_bench.config.commands import ModelSettings
from opcd_bench.errors import EngineDied, ModelError
from opcd_bench.experience import reader
from opcd_bench.models import adapters, loading
from opcd_bench.progress import PlainReporter
from opcd_bench.rollout import vllm_server
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import VLLMEngine, WeightSync
from opcd_bench.rollout.vllm_server import VLLMServer

REQUESTS = [Request((5, 6, 7 + i), 100 + i) for i in range(3)]
URL = "http://127.0.0.1:8000/v1/"


@pytest.fixture
def server(tiny_loaded) -> Iterator[FakeServer]:
    made = FakeServer(tiny_loaded)
    yield made
    made.stop()


def client(server: FakeServer) -> VLLMServer:
    return VLLMServer(URL, transport=server.transport())


def test_replies_come_in_order_each_with_its_own_seed(server, tiny_loaded):
    sampling = Sampling(0.7, 0.9, 20, 10)
    written = client(server).write(REQUESTS, sampling, tiny_loaded.eos_ids)
    expected = HFEngine(tiny_loaded).generate(REQUESTS, sampling)
    assert [w.ids for w in written] == [r.ids for r in expected]
    asked = [body for path, body in server.asked if path == "/v1/completions"]
    assert sorted(body["seed"] for body in asked) == [100, 101, 102]
    assert {(b["temperature"], b["top_p"], b["top_k"], b["max_tokens"]) for b in asked} == {
        (0.7, 0.9, 20, 10)
    }


def test_the_line_moves_with_every_answer_of_the_server(server, tiny_loaded):
    out = io.StringIO()
    with PlainReporter(out, every=0.0).phase("test", None, "samples"):
        client(server).write(REQUESTS, Sampling(max_completion_length=8), tiny_loaded.eos_ids)
    assert [line.split("vllm=")[1] for line in out.getvalue().splitlines()[:3]] == [
        "1/3 prompts", "2/3 prompts", "3/3 prompts"
    ]  # fmt: skip


def test_seeds_fit_the_servers_integers(server, tiny_loaded):
    client(server).write(
        [Request((5, 6), 2**64 - 1)], Sampling(max_completion_length=8), tiny_loaded.eos_ids
    )
    assert server.asked[-1][1]["seed"] == 2**63 - 1


def test_padding_of_the_head_reaches_the_server_as_biases(server, tiny_loaded):
    one = client(server)
    one.write(REQUESTS[:1], Sampling(max_completion_length=8), tiny_loaded.eos_ids, range(7, 9))
    assert server.asked[-1][1]["logit_bias"] == {"7": -100.0, "8": -100.0}
    one.write(REQUESTS[:1], Sampling(max_completion_length=8), tiny_loaded.eos_ids)
    assert "logit_bias" not in server.asked[-1][1]


def test_prompt_log_probs_are_read_by_token_id(server, tiny_loaded):
    sequences = [(5, 6, 7, 8), (9, 10, 11)]
    assert client(server).score(sequences, 4) == FakeVLLM(tiny_loaded).score(sequences, 4)


def test_weights_reach_a_running_server_and_the_student_is_verified(server, tiny_loaded):
    student = dataclasses.replace(tiny_loaded, model=copy.deepcopy(tiny_loaded.model))
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.mul_(1.1)
    engine = VLLMEngine(student, WeightSync(client(server)))
    greedy = Sampling(temperature=0.0, max_completion_length=8)
    mine, theirs = engine.generate(REQUESTS, greedy), HFEngine(student).generate(REQUESTS, greedy)
    assert [r.ids for r in mine] == [r.ids for r in theirs]
    assert [path for path, _ in server.asked].count("/collective_rpc") == 1


def test_weights_that_somebody_else_put_into_a_server_are_noticed(server, tiny_loaded):
    follower = WeightSync(client(server))
    follower.refresh(tiny_loaded)
    follower.refresh(tiny_loaded)
    assert server.backend.loads == 1
    with torch.no_grad():
        for parameter in server.backend.held.model.parameters():
            parameter.mul_(1.2)
    follower.refresh(tiny_loaded)
    assert server.backend.loads == 2


def test_a_float32_server_gets_an_adapter_on_bfloat16_weights_as_the_loss_reads_it(
    server, tiny_model_folder
):
    pytest.importorskip("peft", reason="LoRA needs peft: pip install 'opcd-bench[lora]'")
    base = loading.load(str(tiny_model_folder), device="cpu", dtype="bfloat16")
    student = adapters.attach(base, rank=2, alpha=4, targets="q_proj", seed=0)
    with torch.no_grad():
        for parameter in adapters.parameters(student):
            parameter.add_(1e-4)
    client(server).load(student)
    held = server.backend.held.model.state_dict()
    exact = adapters.weights(student, dtype=torch.float32)
    assert all(torch.equal(held[name], exact[name].float()) for name in exact)
    rounded = adapters.weights(student)
    assert any(not torch.equal(held[name], rounded[name].float()) for name in rounded)


def test_a_server_that_decodes_speculatively_is_asked_without_a_bias(server, tiny_loaded):
    server.speculative = True
    padded = dataclasses.replace(tiny_loaded, padded_rows=3)
    engine = VLLMEngine(padded, WeightSync(client(server)))
    written = engine.generate(REQUESTS, Sampling(temperature=0.0, max_completion_length=8))
    assert len(written) == len(REQUESTS)

    def biased():
        return [body for path, body in server.asked if body.get("logit_bias")]

    assert 1 <= len(biased()) <= len(REQUESTS)
    server.asked.clear()
    engine.generate(REQUESTS, Sampling(temperature=0.0, max_completion_length=8))
    assert biased() == [], "it is remembered"


RESET = "/reset_prefix_cache"
FORCED = (RESET, {"reset_running_requests": "true"})


@pytest.mark.parametrize(("held_for", "asked"), [(2, [(RESET, {})] * 3), (99, [FORCED])])
def test_a_prefix_cache_that_is_held_is_emptied_in_the_end(
    server, tiny_loaded, monkeypatch, held_for, asked
):
    """By itself once other requests end, else with these begun anew."""
    monkeypatch.setattr(vllm_server, "RESET_WAITS", (0.0,) * 4)
    server.held_for = held_for
    client(server).load(tiny_loaded)
    assert [one for one in server.asked if one[0] == RESET][-len(asked) :] == asked
    assert server.asked[-1] == asked[-1]


@pytest.mark.parametrize("older", [False, True])
def test_old_weights_in_a_prefix_cache_are_an_error_that_says_what_to_do(
    server, tiny_loaded, monkeypatch, older
):
    """Before vLLM 0.32 the answer was empty, whatever became of the cache."""
    monkeypatch.setattr(vllm_server, "RESET_WAITS", (0.0,) * 4)
    server.held_for_good = True
    if older:
        server.changes[RESET] = lambda _: httpx.Response(200)
    sync = WeightSync(client(server))
    words = r"did not empty.*until they have ended.*0\.32 \(update it\).*same command again"
    with pytest.raises(ModelError, match=words) as refused:
        sync.refresh(tiny_loaded)
    assert "prefix-caching" not in str(refused.value), "held blocks do not depend on it"
    server.stop()
    with pytest.raises(EngineDied, match="does not answer"):
        sync.refresh(tiny_loaded)


def test_a_forced_reset_keeps_the_credentials_of_the_query(server, tiny_loaded, monkeypatch):
    monkeypatch.setattr(vllm_server, "RESET_WAITS", ())
    VLLMServer(f"{URL}?api_key=s", transport=server.transport()).load(tiny_loaded)
    assert server.asked[-1] == (RESET, {"reset_running_requests": "true", "api_key": "s"})


def test_a_server_that_takes_no_weights_is_told_how_to_start(server, tiny_loaded):
    server.changes["/collective_rpc"] = lambda _: httpx.Response(404, text="Not Found")
    with pytest.raises(ModelError, match="VLLM_SERVER_DEV_MODE=1"):
        VLLMEngine(tiny_loaded, WeightSync(client(server))).generate(
            REQUESTS, Sampling(max_completion_length=8)
        )


def test_a_server_without_prompt_log_probs_cannot_teach(server):
    server.changes["/v1/completions"] = lambda answer: {"choices": [{"text": "no"}]}
    with pytest.raises(
        ModelError, match="no log-probabilities of prompt tokens, so it cannot be a teacher"
    ):
        client(server).score([(5, 6, 7)], 3)


def test_a_server_without_log_probs_cannot_write(server, tiny_loaded):
    server.changes["/v1/completions"] = lambda answer: {
        "choices": [{**answer["choices"][0], "logprobs": None}]
    }
    with pytest.raises(ModelError, match="no token ids or log-probabilities"):
        client(server).write(REQUESTS, Sampling(max_completion_length=8), tiny_loaded.eos_ids)


def test_too_many_log_probs_name_the_servers_switch(server):
    with pytest.raises(ModelError, match="larger --max-logprobs, or lower the loss's k"):
        client(server).score([(5, 6, 7)], 64)


def test_the_same_tokenizer_and_template_pass_and_others_are_told_apart(server, tiny_loaded):
    client(server).check_tokenizer(tiny_loaded.tokenizer, "tiny")
    server.tokenizer = tiny_tokenizer()
    server.tokenizer.chat_template = server.tokenizer.chat_template.replace("\n{{", " {{")
    with pytest.raises(ModelError, match="whose chat template renders conversations differently"):
        client(server).check_tokenizer(tiny_loaded.tokenizer, "tiny")
    server.tokenizer = tiny_tokenizer(extra=("Ġtext",))
    server.changes["/tokenize"] = lambda answer: {"tokens": [t + 1 for t in answer["tokens"]]}
    with pytest.raises(ModelError, match="whose tokenizer differs from that of 'tiny'"):
        client(server).check_tokenizer(tiny_loaded.tokenizer, "tiny")


def test_what_is_no_vllm_server_is_refused(server):
    server.changes["/v1/models"] = lambda _: {"data": [{"id": "gpt"}]}
    with pytest.raises(ModelError, match="is not a vLLM server"):
        client(server)
    server.changes["/v1/models"] = lambda _: {"data": []}
    with pytest.raises(ModelError, match="serves no model"):
        client(server)


def test_a_server_that_is_gone_or_breaks_leaves_the_run_resumable(server, tiny_loaded):
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    with pytest.raises(EngineDied, match=r"does not answer.*Nothing is lost"):
        VLLMServer(URL, transport=httpx.MockTransport(refuse))
    one = client(server)
    server.changes["/v1/completions"] = lambda _: httpx.Response(500, text="EngineCore died")
    with pytest.raises(EngineDied, match=r"failed on /v1/completions \(500: EngineCore died\)"):
        one.score([(5, 6, 7)], 2)


def test_experience_is_read_through_a_server_and_known_by_its_engine(
    server, tiny_model_folder, monkeypatch
):
    def connect(url):
        return VLLMServer(url, transport=server.transport())

    monkeypatch.setattr(reader, "VLLMServer", connect)
    asked = ModelSettings(model=str(tiny_model_folder), device="cpu")
    served = reader.opened(asked.model_copy(update={"engine": "vllm", "vllm_url": URL}))
    greedy = Sampling(temperature=0.0, max_completion_length=6)
    replies = served.engine.generate(REQUESTS, greedy)
    assert [r.ids for r in replies] == [
        r.ids for r in HFEngine(served.loaded).generate(REQUESTS, greedy)
    ]
    local = reader.opened(asked)
    assert served.identity == {**local.identity, "engine": "vllm"}


def test_a_servers_credentials_are_used_and_reach_no_message(server):
    url = "http://anna:s3cret@127.0.0.1:8000/v1"
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization", ""))
        raise httpx.ConnectError(f"cannot reach {request.url} by {url}")

    with pytest.raises(EngineDied, match=r"\*\*\*@127\.0\.0\.1") as died:
        VLLMServer(url, transport=httpx.MockTransport(answer))
    assert seen == ["Basic YW5uYTpzM2NyZXQ="] and "s3cret" not in str(died.value)


# --- servers that are none ---------------------------------------------------------------------

ANY = ["/v1/models", "/v1/completions", "/tokenize", "/detokenize"]
ANSWERS = {
    "HTML": httpx.Response(200, html="<html><body>Welcome to nginx!</body></html>"),
    "a list": httpx.Response(200, json=[]),
    "null": httpx.Response(200, content=b"null"),
    "a number": httpx.Response(200, json=7),
    "a text": httpx.Response(200, json="ok"),
    "another object": httpx.Response(200, json={"detail": "ok"}),
    "lists of null": httpx.Response(
        200, json={"data": [None], "choices": [None], "tokens": [None], "prompt": None}
    ),
    "objects of null": httpx.Response(
        200,
        json={
            "data": [{"id": None, "max_model_len": "x"}],
            "choices": [{"token_ids": [None], "logprobs": {"token_logprobs": [None]}}],
            "tokens": ["a", "b"],
            "prompt": {},
        },
    ),
    "half an object": httpx.Response(200, content=b'{"data": [{"id": "m", "max_mod'),
    "brackets of 100,000 levels": httpx.Response(200, content=b"[" * 100_000),
    "a number of 5,000 digits": httpx.Response(200, content=b"9" * 5_000),
    "bytes that are no text": httpx.Response(200, content=b"\xff\xfe\x00{}"),
    "nothing": httpx.Response(200, content=b""),
    "a redirect": httpx.Response(302, headers={"location": "https://login.example/"}),
}


def asked(one: VLLMServer, path: str, loaded) -> None:
    if path == "/v1/completions":
        one.write(REQUESTS, Sampling(max_completion_length=8), loaded.eos_ids)
    one.check_tokenizer(loaded.tokenizer, "tiny")


@pytest.mark.parametrize("path", ANY)
@pytest.mark.parametrize("kind", ANSWERS)
def test_what_no_vllm_server_would_answer_is_one_message(server, tiny_loaded, kind, path):
    server.changes[path] = lambda _: ANSWERS[kind]
    with pytest.raises(ModelError) as refused:
        asked(client(server), path, tiny_loaded)
    message = str(refused.value)
    assert message.startswith("vLLM server http://127.0.0.1:8000 ") and "\n" not in message
    assert "vllm serve MODEL" in message or "vLLM" in message
    assert len(message) < 400


@pytest.mark.parametrize("rows", [[None, None], [None, {"x": 1}], [None, {"6": {"logprob": None}}]])
def test_prompt_log_probs_of_another_shape_are_refused(server, rows):
    server.changes["/v1/completions"] = lambda _: {"choices": [{"prompt_logprobs": rows}]}
    with pytest.raises(ModelError, match="as a vLLM server does"):
        client(server).score([(5, 6)], 2)


@pytest.mark.parametrize(("limit", "sent"), [("size", 10**6), ("body", 30)])
def test_an_answer_without_end_is_left(server, monkeypatch, limit, sent):
    """Endless by its size, or by its time: a byte at a time."""

    def drops():
        while True:
            yield b" " * sent

    limits = vllm_server.QUICK._replace(**{limit: 0.2 if limit == "body" else 10**7})
    monkeypatch.setattr(vllm_server, "QUICK", limits)
    server.changes["/v1/models"] = lambda _: httpx.Response(200, content=drops())
    with pytest.raises(EngineDied, match="does not come to an end with its answer to /v1/models"):
        client(server)


def test_credentials_in_a_urls_query_are_sent_and_reach_no_message(server):
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return server.answer(request)

    url = "http://127.0.0.1:8000/v1?api_key=s3cret"
    one = VLLMServer(url, transport=httpx.MockTransport(answer))
    assert seen == ["http://127.0.0.1:8000/v1/models?api_key=s3cret"] and "s3cret" not in one.name


@pytest.mark.parametrize("url", ["http://[::1", "http://h:abc", "http://a\x00b", "//"])
def test_a_url_that_no_client_can_call_is_refused(url):
    with pytest.raises((ModelError, EngineDied)):
        VLLMServer(url)
