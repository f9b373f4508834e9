"""Stand-ins for vLLM with its contracts: a backend in memory, and a server behind httpx."""

from __future__ import annotations

import copy
import dataclasses
import json
import threading

import httpx
import torch

from opcd_bench.models import loading, prompts
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import PromptLogProbs, RawReply


class FakeVLLM:
    """Holds a copy of a model; ``deaf`` ignores the weights that it is given."""

    name = "fake vLLM"
    shared, biases = False, True

    def __init__(self, loaded: LoadedModel, *, arbitrary_ids: bool = False, deaf: bool = False):
        self.held = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))
        self.arbitrary_ids, self.deaf = arbitrary_ids, deaf
        self.loads = 0
        # Requests come from several threads, and sampling changes the module while it runs.
        self._alone = threading.Lock()

    def load(self, loaded: LoadedModel) -> None:
        self.loads += 1
        if not self.deaf:
            self.held.model.load_state_dict(loaded.model.state_dict())

    def write(self, requests, sampling, stop_ids, padding=()):
        assert tuple(stop_ids) == self.held.eos_ids
        written = []
        with self._alone:
            replies = HFEngine(self.held).generate(requests, sampling)
        for request, reply in zip(requests, replies, strict=True):
            scored = self.score([request.prompt_ids + reply.ids], 0)[0]
            written.append(RawReply(reply.ids, scored.last(len(reply.ids)).own, reply.finish))
        return written

    def score(self, sequences, top, asked=None):
        return [
            self._one(sequence, top, None if asked is None else asked[i])
            for i, sequence in enumerate(sequences)
        ]

    @torch.no_grad()
    def _one(self, sequence, top, asked):
        at = torch.tensor([sequence])
        logp_TV = self.held.model(at).logits[0, :-1].float().log_softmax(-1)
        own = logp_TV.gather(-1, at[0, 1:, None])[:, 0].tolist()
        if asked is None:
            ids = logp_TV.topk(top, dim=-1).indices.tolist() if top else [[] for _ in own]
            rows = [
                [token, *[i for i in row if i != token]]
                for token, row in zip(sequence[1:], ids, strict=True)
            ]
        else:
            own, logp_TV = own[-len(asked) :], logp_TV[-len(asked) :]
            rows = [list(row) for row in asked]
        logps = [[logp_TV[t, i].item() for i in row] for t, row in enumerate(rows)]
        return PromptLogProbs(tuple(own), tuple(map(tuple, rows)), tuple(map(tuple, logps)))


class FakeServer:
    """What ``vllm serve`` answers, for one FakeVLLM; ``changes`` may spoil an answer by path."""

    def __init__(self, loaded: LoadedModel, *, name: str = "tiny", max_logprobs: int = 20):
        self.backend, self.model, self.max_logprobs = FakeVLLM(loaded), name, max_logprobs
        self.tokenizer = loaded.tokenizer
        self.changes = {}
        self.asked = []
        self.speculative = False
        self.held_for, self.held_for_good = 0, False  # blocks of the prefix cache, by requests
        self._one = threading.Lock()  # a model of this process changes its process-wide precision
        self._stopped = False

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        with self._one:
            if self._stopped:
                raise httpx.ConnectError("the server was stopped", request=request)
            return self._answer(request)

    def stop(self) -> None:
        """No answer goes on after this: threads of a client that was left would compute beside."""
        with self._one:
            self._stopped = True

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        body = {**request.url.params, **(json.loads(request.content) if request.content else {})}
        self.asked.append((path, body))
        answer = getattr(self, path.strip("/").replace("/", "_").replace("v1_", ""))(body)
        if path in self.changes:
            answer = self.changes[path](answer)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def models(self, body):
        limit = self.backend.held.max_length
        return {"data": [{"id": self.model, "max_model_len": limit}]}

    def completions(self, body):
        ids = tuple(body["prompt"])
        if (top := body.get("prompt_logprobs")) is not None:
            if top > self.max_logprobs:
                text = f"Requested prompt logprobs of {top}, which is greater than max allowed: 20"
                return httpx.Response(400, json={"error": {"message": text}})
            scored = self.backend.score([ids], top)[0]
            rows = [
                {str(i): {"logprob": p, "rank": 1} for i, p in zip(row, logps, strict=True)}
                for row, logps in zip(scored.ids, scored.logps, strict=True)
            ]
            return {"choices": [{"prompt_logprobs": [None, *rows]}]}
        if self.speculative and body.get("logit_bias"):
            text = (
                "The min_p and logit_bias sampling parameters are not yet supported with "
                "speculative decoding."
            )
            return httpx.Response(400, json={"error": {"message": text}})
        from opcd_bench.rollout.engine import Request, Sampling

        sampling = Sampling(body["temperature"], body["top_p"], body["top_k"], body["max_tokens"])
        one = self.backend.write([Request(ids, body["seed"])], sampling, body["stop_token_ids"])[0]
        return {
            "choices": [
                {
                    "token_ids": list(one.ids),
                    "logprobs": {"token_logprobs": list(one.logprobs)},
                    "finish_reason": one.finish,
                }
            ]
        }

    def tokenize(self, body):
        if "messages" in body:
            return {"tokens": list(prompts.prompt_ids(self.tokenizer, body["messages"]))}
        text = body["prompt"]
        return {"tokens": self.tokenizer(text, add_special_tokens=False)["input_ids"]}

    def detokenize(self, body):
        return {"prompt": self.tokenizer.decode(body["tokens"])}

    def collective_rpc(self, body):
        assert body["method"] == "reload_weights"
        self.backend.load(loading.load(body["kwargs"]["weights_path"], device="cpu"))
        return {"results": [None]}

    def reset_prefix_cache(self, body):
        """vLLM 0.32 answers 200 while blocks are held too, and 500 where that lasts."""
        if body.get("reset_running_requests") == "true":
            if self.held_for_good:
                return httpx.Response(500, text="Failed to reset KV cache even when all")
            return {"success": True}
        self.held_for -= 1
        return {"success": self.held_for < 0 and not self.held_for_good}
