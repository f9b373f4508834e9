"""The model in memory as lm-eval asks it: HFLM whose replies may come from our own engine."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from torch import Tensor

from opcd_bench.envs.thinking import without_thinking
from opcd_bench.errors import DataError
from opcd_bench.models.chat_template import date_words
from opcd_bench.models.content import MARK, controls_of, ids_of
from opcd_bench.models.decoded import opening, reply_text
from opcd_bench.progress import beat
from opcd_bench.rollout.answered import answered
from opcd_bench.rollout.engine import Engine, Request, Sampling
from opcd_bench.seeds import seed_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LoggedReply:
    """A reply as the model wrote it; ``finish`` is None where lm-eval's own HFLM wrote it."""

    text: str
    finish: str | None


class ReplyLM(HFLM):  # type: ignore[misc]
    """HFLM over a model in memory, without truncation and with thinking blocks taken out.

    With an ``engine`` it writes the replies, each under noise of its own (a hash of task, prompt
    and ``seed``); without, HFLM does, from torch's random state. ``written`` keeps them as they
    came, by task and document. ``date`` is what a template that prints today's date prints.

    Prompts whose content holds the text of control tokens have it masked (`content.Controls`), so
    that it stays text wherever lm-eval encodes them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        engine: Engine | None,
        seed: int,
        batch_size: int,
        date: str | None = None,
    ) -> None:
        # HFLM sets the pad token and side of the tokenizer it is given, so it gets a copy.
        super().__init__(
            pretrained=model,
            tokenizer=copy.deepcopy(tokenizer),
            batch_size=batch_size,
            add_bos_token=False,
            enable_thinking=False,
            chat_template_args=date_words(tokenizer, date),
        )
        self._engine, self._seed = engine, seed
        self._answers = 0
        self.written: dict[tuple[str, int], list[LoggedReply]] = defaultdict(list)

    def get_model_info(self) -> dict[str, Any]:
        """Nothing: HFLM's would look the model up on the Hub."""
        return {}

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Text of ids; the marks of thoughts stay, though a tokenizer calls them special."""
        if not skip_special_tokens:
            return str(super().tok_decode(tokens, skip_special_tokens=False))
        return reply_text(self.tokenizer, [tokens] if isinstance(tokens, int) else list(tokens))

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """lm-eval's own; DataError for a prompt that would be cut."""
        self.refuse_overlong(requests)
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _model_call(self, inps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As HFLM's; the run's line moves with the answers that have been read."""
        logits: Tensor = super()._model_call(inps, *args, **kwargs)
        self._answers += len(inps)
        beat(reading=f"{self._answers} answers")
        return logits

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as lm-eval renders it, masked where its content holds control tokens."""
        render = partial(super().apply_chat_template, add_generation_prompt=add_generation_prompt)
        return controls_of(self.tokenizer).rendered(
            chat_history, lambda messages: str(render([dict(one) for one in messages]))
        )

    def said(self, prompt: str) -> str:
        """A prompt as people read it, without masks."""
        return controls_of(self.tokenizer).unmasked(prompt)

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """Ids of a rendered text, in which what is masked stays text."""
        if MARK in string:
            return list(ids_of(self.tokenizer, string))
        return list(super().tok_encode(string, *args, **kwargs))

    def tok_batch_encode(
        self, strings: list[str], padding_side: str = "left", *args: Any, **kwargs: Any
    ) -> Any:
        """As HFLM's, in which what is masked stays text; none is cut (`_refuse_overlong`)."""
        if not any(MARK in string for string in strings):
            return super().tok_batch_encode(strings, padding_side, *args, **kwargs)
        rows = {"input_ids": [self.tok_encode(string) for string in strings]}
        padded = self.tokenizer.pad(rows, padding_side=padding_side, return_tensors="pt")
        return padded["input_ids"], padded["attention_mask"]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of an answer that a task gives, which is content too."""
        controls = controls_of(self.tokenizer)
        if controls.inside(continuation):
            continuation = controls.masked(continuation)
        ids: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return ids

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Replies in the order of ``requests``; DataError for a prompt that would be cut."""
        self.refuse_overlong(requests)
        if self._engine is None:
            written = self._from_hflm(requests)
        else:
            written = self._from_engine(self._engine, requests)
        graded = []
        for request, reply in zip(requests, written, strict=True):
            self.written[request.task_name, request.doc_id].append(reply)
            # As lm-eval does: thinking first, so that a stop string cuts the answer, not it.
            until = normalize_gen_kwargs(request.args[1], self.max_gen_toks)["until"]
            answer = without_thinking(reply.text)
            graded.append(postprocess_generated_text(answer, until, think_end_token=None))
        return graded

    def refuse_overlong(self, requests: Sequence[Instance]) -> None:
        """Raise DataError for the first prompt that lm-eval would cut to the model's window.

        Rolling log-likelihoods have none: they read a text of any length window by window.
        """
        for request in requests:
            if request.request_type == "loglikelihood":
                self._refuse_continued(request)
            elif request.request_type == "generate_until":
                self._refuse_answered(request)

    def _refuse_answered(self, request: Instance) -> None:
        prompt, asked = request.args
        most = self.max_length - normalize_gen_kwargs(asked, self.max_gen_toks)["max_gen_toks"]
        length = len(self.tok_encode(prompt))
        if length > most:
            raise DataError(
                f"task {request.task_name!r}, document {request.doc_id}: the prompt has "
                f"{length} tokens, and the model can read only {self.max_length} together "
                "with the response, so lm-eval would cut the beginning of the prompt. Lower "
                "retention_max_completion_length, or remove the task from retention"
            )

    def _refuse_continued(self, request: Instance) -> None:
        prompt, answer = request.args
        length = len(self.tok_encode(prompt + answer)) + (prompt == "")
        # The last token is scored and not read.
        if length > self.max_length + 1:
            raise DataError(
                f"task {request.task_name!r}, document {request.doc_id}: the prompt with its "
                f"answer has {length} tokens, and the model can read only {self.max_length}, so "
                "lm-eval would cut the beginning of the prompt. Use a model with a larger "
                "window, score fewer documents (retention_items), or remove the task from "
                "retention"
            )

    def _from_hflm(self, requests: Sequence[Instance]) -> list[LoggedReply]:
        """Whole replies: a stop string may stand in a thought, where it ends nothing."""
        whole = [
            dataclasses.replace(one, arguments=(one.args[0], {**one.args[1], "until": []}))
            for one in requests
        ]
        texts = super().generate_until(whole, disable_tqdm=True)
        prompts = [self.tok_encode(request.args[0]) for request in requests]
        return [
            LoggedReply(opening(self.tokenizer, ids) + text, None)
            for ids, text in zip(prompts, texts, strict=True)
        ]

    def _from_engine(self, engine: Engine, requests: Sequence[Instance]) -> list[LoggedReply]:
        written: list[LoggedReply | None] = [None] * len(requests)
        groups: dict[Sampling, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            groups[_sampling(request.args[1], self.max_gen_toks)].append(place)
        for sampling, places in groups.items():
            seen: Counter[tuple[str, str]] = Counter()
            asked = []
            for place in places:
                task, prompt = requests[place].task_name, requests[place].args[0]
                ids = tuple(int(i) for i in self.tok_encode(prompt))
                seed = seed_of("retention", task, prompt, seen[task, prompt], self._seed)
                seen[task, prompt] += 1
                asked.append(Request(ids, seed))
            replies = answered(engine, asked, sampling, self.tokenizer)
            for place, reply in zip(places, replies, strict=True):
                written[place] = LoggedReply(reply.text, reply.finish)
        return [reply for reply in written if reply is not None]


def _sampling(gen_kwargs: dict[str, Any], default_length: int) -> Sampling:
    kwargs = normalize_gen_kwargs(gen_kwargs, default_length)
    return Sampling(
        temperature=float(kwargs["temperature"]) if kwargs["do_sample"] else 0.0,
        top_p=float(kwargs.get("top_p") or 1.0),
        top_k=int(kwargs.get("top_k") or 0),
        max_completion_length=int(kwargs["max_gen_toks"]),
    )


class Fitted(Exception):
    """Every prompt fits the model's window: raised where answers would begin."""


class PromptCheck(ReplyLM):
    """A `ReplyLM` that reads all prompts of a task and answers none: DataError, or `Fitted`."""

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Refuse what would be cut."""
        self.refuse_overlong(requests)
        raise Fitted

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Nothing is cut."""
        raise Fitted

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Refuse what would be cut."""
        self.refuse_overlong(requests)
        raise Fitted
