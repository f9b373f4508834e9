"""A running vLLM server, through its OpenAI-compatible completions with token ids both ways."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
from transformers import PreTrainedTokenizerBase

from opcd_bench.envs.task import Message
from opcd_bench.errors import EngineDied, ModelError
from opcd_bench.models import prompts, saving
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.source import first_line
from opcd_bench.printable import url_without_secrets
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.vllm import PromptLogProbs, RawReply, finish_of, sampling_words

T = TypeVar("T")

_AT_A_TIME = 64
_SECONDS = 600.0
_SAMPLE = "Plain text, numbers 0123456789, symbols {[(<+-*/=>)]}, größer, 日本語.\n\n  done"
_CONVERSATION: tuple[Message, ...] = (
    {"role": "user", "content": "What is two plus two?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And one more?"},
)


class VLLMServer:
    """The client of one server at ``url`` (with or without ``/v1``), for the model that it serves.

    Raises EngineDied where nothing answers there, ModelError for a server that is no vLLM.
    """

    arbitrary_ids = False
    shared = True

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.name = f"vLLM server {url_without_secrets(self.url)}"
        limits = httpx.Limits(max_connections=_AT_A_TIME)
        self._client = httpx.Client(
            base_url=self.url, timeout=_SECONDS, limits=limits, transport=transport
        )
        served = self._send("GET", "/v1/models").get("data", [])
        if not served:
            raise ModelError(f"{self.name} serves no model; start it with: vllm serve MODEL")
        self.model = str(served[0]["id"])
        self.max_length = int(served[0].get("max_model_len") or 0)
        if not self.max_length:
            raise ModelError(
                f"{self.name} does not report its max_model_len, so it is not a vLLM server; "
                "start one with: vllm serve MODEL"
            )

    def write(
        self, requests: Sequence[Request], sampling: Sampling, stop_ids: Sequence[int]
    ) -> list[RawReply]:
        """One reply a request, in order; each is a call of its own, with its own seed."""

        def one(request: Request) -> RawReply:
            choice = self._complete(
                prompt=list(request.prompt_ids),
                **sampling_words(request, sampling, stop_ids),
                return_token_ids=True,
                skip_special_tokens=False,
            )
            ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {})
            if ids is None or not logprobs.get("token_logprobs"):
                raise ModelError(
                    f"{self.name} gives no token ids or log-probabilities with its responses. It "
                    "must be vLLM 0.32 or newer, started without --max-logprobs 0"
                )
            return RawReply(
                tuple(ids), tuple(logprobs["token_logprobs"]), finish_of(choice["finish_reason"])
            )

        return self._all(one, requests)

    def score(
        self,
        sequences: Sequence[tuple[int, ...]],
        top: int,
        asked: Sequence[Sequence[Sequence[int]]] | None = None,
    ) -> list[PromptLogProbs]:
        """Prompt log-probs of each sequence; ``asked`` is not served here."""
        if asked is not None:
            raise AssertionError("a server lists its own likeliest ids alone")

        def one(sequence: tuple[int, ...]) -> PromptLogProbs:
            choice = self._complete(
                prompt=list(sequence), max_tokens=1, temperature=0.0, prompt_logprobs=top
            )
            return self._rows(sequence, choice.get("prompt_logprobs"))

        return self._all(one, sequences)

    def load(self, loaded: LoadedModel) -> None:
        """Have the server read the weights from a folder that it shares with this machine."""
        with tempfile.TemporaryDirectory(prefix="opcd-bench-") as scratch:
            folder = Path(scratch) / "model"
            saving.save(loaded, folder)
            folder.parent.chmod(0o755)
            try:
                self._send(
                    "POST",
                    "/collective_rpc",
                    {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}},
                )
                self._send("POST", "/reset_prefix_cache")
            except ModelError as error:
                raise ModelError(
                    f"{self.name} does not accept new weights while it runs ({error}). Start it "
                    f"with VLLM_SERVER_DEV_MODE=1 on a machine where {folder.parent.parent} is "
                    "the same folder as here (TMPDIR chooses another), or use engine = 'vllm' "
                    "without vllm_url"
                ) from error

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase, student: str) -> None:
        """Raise ModelError unless the server and the student mean the same by every token id.

        Text to ids, ids to text, and the ids of a rendered conversation (LOSSES.md, 1.5).
        """
        ours = tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
        theirs = self._send(
            "POST",
            "/tokenize",
            {"model": self.model, "prompt": _SAMPLE, "add_special_tokens": False},
        )["tokens"]
        back = self._send("POST", "/detokenize", {"model": self.model, "tokens": ours})["prompt"]
        if list(ours) != list(theirs) or back != tokenizer.decode(ours):
            raise ModelError(
                f"{self.name} serves {self.model!r}, whose tokenizer differs from that of "
                f"{student!r}: the same text gives other token ids. Serve a model of the "
                "student's own family"
            )
        own = prompts.prompt_ids(tokenizer, _CONVERSATION)
        rendered = self._send(
            "POST",
            "/tokenize",
            {
                "model": self.model,
                "messages": list(_CONVERSATION),
                "add_generation_prompt": True,
                "chat_template_kwargs": {"enable_thinking": False},
            },
        )["tokens"]
        if list(own) != list(rendered):
            raise ModelError(
                f"{self.name} serves {self.model!r}, whose chat template renders conversations "
                f"differently from that of {student!r}. Start it with --chat-template FILE, the "
                "student's chat_template.jinja"
            )

    def _rows(self, sequence: Sequence[int], rows: Any) -> PromptLogProbs:
        if not isinstance(rows, list) or len(rows) != len(sequence):
            raise ModelError(
                f"{self.name} gives no log-probabilities of prompt tokens, so it cannot be a "
                "teacher. It must be vLLM's own server (vllm serve MODEL)"
            )
        own, ids, logps = [], [], []
        for token, row in zip(sequence[1:], rows[1:], strict=True):
            listed = {int(key): float(value["logprob"]) for key, value in row.items()}
            own.append(listed[token])
            ids.append(tuple(listed))
            logps.append(tuple(listed.values()))
        return PromptLogProbs(tuple(own), tuple(ids), tuple(logps))

    def _complete(self, **fields: Any) -> Mapping[str, Any]:
        answer = self._send("POST", "/v1/completions", {"model": self.model, **fields})
        choice: Mapping[str, Any] = answer["choices"][0]
        return choice

    def _all(self, call: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Calls at a time, results in order."""
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            return list(pool.map(call, items))

    def _send(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._client.request(verb, path, json=body)
        except httpx.HTTPError as error:
            raise EngineDied(
                f"{self.name} does not answer ({first_line(error)}). Nothing is lost: start it "
                "(vllm serve MODEL) and type the same command again"
            ) from error
        if answer.status_code >= 500:
            raise EngineDied(
                f"{self.name} failed on {path} ({answer.status_code}: {answer.text[:200]}); its "
                "own log says why. Nothing is lost: type the same command again once the server "
                "is up"
            )
        if answer.status_code >= 400:
            raise ModelError(f"{self.name} refuses {path}: {_reason(answer)}")
        return answer.json() if answer.content else {}


def _reason(answer: httpx.Response) -> str:
    """What the server says was wrong, and the switch that helps where it is known."""
    text = answer.text[:300]
    if "prompt logprobs" in text.lower() or "max-logprobs" in text or "max allowed" in text:
        return f"{text}. Start it with a larger --max-logprobs, or lower the loss's k"
    return f"{answer.status_code}: {text}"
