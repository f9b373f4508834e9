"""A running vLLM server, through its OpenAI-compatible completions with token ids both ways."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import torch
from transformers import PreTrainedTokenizerBase

from opcd_bench.envs.task import Message
from opcd_bench.errors import EngineDied, ModelError
from opcd_bench.models import prompts, saving
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.source import first_line
from opcd_bench.printable import url_without_secrets
from opcd_bench.progress import beat
from opcd_bench.rollout import vllm_answers
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.vllm import PromptLogProbs, RawReply, sampling_words

T = TypeVar("T")

_AT_A_TIME = 64
_CACHE = "/reset_prefix_cache"
RESET_WAITS = (0.1, 0.3, 1.0, 3.0)
"""Seconds between attempts to empty the prefix cache: requests that end free their blocks."""


class Limits(NamedTuple):
    """How long a server may be silent, how long its answer may take once begun, and how large."""

    silence: float
    body: float
    size: int


QUICK = Limits(silence=60.0, body=60.0, size=2**24)
"""For what a server knows at once: its model, and a few tokens."""
WORK = Limits(silence=600.0, body=600.0, size=2**31)

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
        try:
            whole = httpx.URL(url)
            base = whole.copy_with(query=None, path=whole.path.rstrip("/").removesuffix("/v1"))
            self._client = httpx.Client(
                base_url=base,
                params=whole.params,
                limits=httpx.Limits(max_connections=_AT_A_TIME),
                transport=transport,
            )
        except (httpx.InvalidURL, ValueError) as error:  # of a proxy in the environment too
            raise ModelError(
                f"vLLM server {url_without_secrets(url)}: it cannot be called ({error})"
            ) from None
        self.name = f"vLLM server {url_without_secrets(str(base))}"
        self.biases = True
        self.model, self.max_length = vllm_answers.served(
            self.name, self._send("GET", "/v1/models", limits=QUICK)
        )

    def write(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        stop_ids: Sequence[int],
        padding: Sequence[int] = (),
    ) -> list[RawReply]:
        """One reply a request, in order; each is a call of its own, with its own seed.

        A server that decodes speculatively refuses biases: it is asked without any from then on.
        """

        def one(request: Request) -> RawReply:
            kept = padding if self.biases else ()
            try:
                choice = self._complete(
                    prompt=list(request.prompt_ids),
                    **sampling_words(request, sampling, stop_ids, kept),
                    return_token_ids=True,
                    skip_special_tokens=False,
                )
            except ModelError as error:
                if not kept or "speculative decoding" not in str(error):
                    raise
                self.biases = False
                return one(request)
            return vllm_answers.reply(self.name, choice)

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
            return vllm_answers.prompt_rows(self.name, sequence, choice.get("prompt_logprobs"))

        return self._all(one, sequences)

    def load(self, loaded: LoadedModel) -> None:
        """Have the server read the weights from a folder that it shares with this machine.

        It gives them its own type: merged weights of an adapter reach it without round-off.
        """
        with tempfile.TemporaryDirectory(prefix="opcd-bench-") as scratch:
            folder = Path(scratch) / "model"
            saving.save(loaded, folder, torch.float32)
            folder.parent.chmod(0o755)
            try:
                self._send(
                    "POST",
                    "/collective_rpc",
                    {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}},
                )
                emptied = self._empties_prefix_cache()
            except ModelError as error:
                raise ModelError(
                    f"{self.name} does not accept new weights while it runs ({error}). Start it "
                    f"with VLLM_SERVER_DEV_MODE=1 on a machine where {folder.parent.parent} is "
                    "the same folder as here (TMPDIR chooses another), or use engine = 'vllm' "
                    "without vllm_url"
                ) from error
        if not emptied:
            raise ModelError(
                f"{self.name} did not empty its prefix cache after new weights, so it would mix "
                "them with what the old ones computed: requests of others hold its blocks (wait "
                "until they have ended), or it is older than vLLM 0.32 (update it). Then type the "
                "same command again"
            )

    def _empties_prefix_cache(self) -> bool:
        """Whether nothing is left in it of the old weights.

        It cannot be emptied while requests run: after a short while these begin anew.
        """
        for wait in RESET_WAITS:
            if vllm_answers.emptied(self.name, self._send("POST", _CACHE, limits=QUICK)):
                return True
            time.sleep(wait)
        try:
            answer = self._send(
                "POST", _CACHE, limits=QUICK, query={"reset_running_requests": "true"}
            )
        except EngineDied:  # 500 for blocks that no request here holds; a dead server says so here
            self._send("GET", "/v1/models", limits=QUICK)
            return False
        return vllm_answers.emptied(self.name, answer)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase, student: str) -> None:
        """Raise ModelError unless the server and the student mean the same by every token id.

        Text to ids, ids to text, and the ids of a rendered conversation.
        """
        ours = tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
        theirs = self._tokens({"prompt": _SAMPLE, "add_special_tokens": False})
        asked = {"model": self.model, "tokens": ours}
        back = vllm_answers.text(self.name, self._send("POST", "/detokenize", asked, limits=QUICK))
        if list(ours) != list(theirs) or back != tokenizer.decode(ours):
            raise ModelError(
                f"{self.name} serves {self.model!r}, whose tokenizer differs from that of "
                f"{student!r}: the same text gives other token ids. Serve a model of the "
                "student's own family"
            )
        own = prompts.prompt_ids(tokenizer, _CONVERSATION)
        rendered = self._tokens(
            {
                "messages": list(_CONVERSATION),
                "add_generation_prompt": True,
                "chat_template_kwargs": {"enable_thinking": False},
            }
        )
        if list(own) != list(rendered):
            raise ModelError(
                f"{self.name} serves {self.model!r}, whose chat template renders conversations "
                f"differently from that of {student!r}. Start it with --chat-template FILE, the "
                "student's chat_template.jinja"
            )

    def _complete(self, **fields: Any) -> Mapping[str, Any]:
        answer = self._send("POST", "/v1/completions", {"model": self.model, **fields})
        return vllm_answers.choice(self.name, answer)

    def _all(self, call: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Calls at a time, results in order."""
        pool = ThreadPoolExecutor(_AT_A_TIME)
        try:
            found = []
            for answer in pool.map(call, items):
                found.append(answer)
                beat(vllm=f"{len(found)}/{len(items)} prompts")
            return found
        finally:  # after an error, and ctrl-C, for no answer that is still on its way
            pool.shutdown(wait=False, cancel_futures=True)

    def _tokens(self, asked: Mapping[str, Any]) -> tuple[int, ...]:
        answer = self._send("POST", "/tokenize", {"model": self.model, **asked}, limits=QUICK)
        return vllm_answers.tokens(self.name, answer)

    def _send(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        limits = limits or WORK
        try:
            with self._client.stream(
                verb, path, params=query, json=body, timeout=limits.silence
            ) as answer:
                content = self._content(answer, path, limits)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise EngineDied(
                f"{self.name} does not answer ({first_line(error)}). Nothing is lost: start it "
                "(vllm serve MODEL) and type the same command again"
            ) from error
        said = content[:300].decode("utf-8", "replace")
        if answer.status_code >= 500:
            raise EngineDied(
                f"{self.name} failed on {path} ({answer.status_code}: {said[:200]}); its own log "
                "says why. Nothing is lost: type the same command again once the server is up"
            )
        if answer.status_code >= 400:
            raise ModelError(f"{self.name} refuses {path}: {_reason(answer.status_code, said)}")
        if answer.status_code >= 300:
            raise ModelError(
                f"{self.name} sends {path} elsewhere ({answer.status_code}: "
                f"{answer.headers.get('location', 'no address')}); give the URL of vLLM itself"
            )
        return vllm_answers.parsed(self.name, path, content)

    def _content(self, answer: httpx.Response, path: str, limits: Limits) -> bytes:
        """An answer's body; EngineDied for one that does not end in time or in size."""
        found, end = bytearray(), time.monotonic() + limits.body
        for part in answer.iter_bytes():
            found += part
            if len(found) > limits.size or time.monotonic() > end:
                raise EngineDied(
                    f"{self.name} does not come to an end with its answer to {path} "
                    f"({len(found)} bytes so far). It must be vLLM's own server (vllm serve MODEL)"
                )
        return bytes(found)


def _reason(status: int, text: str) -> str:
    """What the server says was wrong, and the switch that helps where it is known."""
    if "prompt logprobs" in text.lower() or "max-logprobs" in text or "max allowed" in text:
        return f"{text}. Start it with a larger --max-logprobs, or lower the loss's k"
    return f"{status}: {text}"
