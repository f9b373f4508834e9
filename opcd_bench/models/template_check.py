"""Chat templates that cannot be used are refused at load: errors, endless loops, chance."""

from __future__ import annotations

import faulthandler
import os
import resource
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from opcd_bench.envs.task import Message
from opcd_bench.errors import DataError, ModelError
from opcd_bench.models.chat_template import prints_date, rendered

SECONDS = 3
"""CPU seconds that rendering one prompt of every kind may take; milliseconds are usual."""

_WAIT = 120.0
"""Seconds after which a child that does not even use its CPU seconds is given up."""
_MEMORY = 1 << 30
_LONGEST = 100_000
_TIMES = 10
_DONE = "done"

_ASK: Message = {"role": "user", "content": "How much is 4711 and 815?\n\n" + "One more. " * 200}
_SAID: Message = {"role": "assistant", "content": "It is 5526. " * 50}
_TOLD: Message = {"role": "system", "content": "Sums are told. " * 200}
KINDS: dict[str, tuple[Message, ...]] = {
    "a user message": (_ASK,),
    "a system and a user message": (_TOLD, _ASK),
    "several turns": (_ASK, _SAID, _ASK),
    "a system message and several turns": (_TOLD, _ASK, _SAID, _ASK),
}
"""Every kind of prompt. The first must render; whether the others do, those say who need them."""

_CHECKED: set[tuple[str, str]] = set()


def check_template(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError, with the reason, where no prompt can come of a model's chat template.

    It is rendered in a child process of bounded time and memory, once per template and process.
    A tokenizer without a template passes: `loading.assemble` refuses it.
    """
    if not tokenizer.chat_template:
        return
    try:
        prints_date(tokenizer)
    except DataError as error:
        raise ModelError(f"model {name!r}: {error}") from error
    key = (str(tokenizer.chat_template), str(tokenizer.special_tokens_map))
    if key in _CHECKED:
        return
    said = _said_by_a_child(lambda say: _render_all(tokenizer, say))
    if said[-1:] != [_DONE]:
        kind, *problem = (said[-1] if said else next(iter(KINDS))).split("\t")
        raise ModelError(
            f"model {name!r}: its chat template cannot be used: "
            + (
                problem[0]
                if problem
                else f"it did not come to an end on {kind} within {SECONDS} s of CPU time and "
                f"{_MEMORY >> 30} GiB. Correct chat_template.jinja in the model's folder, or use "
                "another model"
            )
        )
    _CHECKED.add(key)


def _render_all(tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None]) -> None:
    """Render every kind; ``say`` hears the kind that is under way, and what is wrong with it."""
    for kind, messages in KINDS.items():
        say(kind)
        if problem := _problem(tokenizer, messages, first=messages == (_ASK,)):
            say(f"{kind}\t{problem}")
            return
    say(_DONE)


def _problem(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, first: bool
) -> str:
    """What is wrong with a kind of prompt, as far as nobody can use the template; else empty."""
    try:
        texts = {rendered(tokenizer, messages) for _ in range(_TIMES)}
    except DataError as error:
        # Many templates refuse a kind, and some fail on one: whoever needs it is told.
        exhausted = isinstance(error.__cause__, MemoryError)
        return " ".join(str(error).split()) if first or exhausted else ""
    text = texts.pop()
    if texts:
        return "it makes another prompt of the same messages each time. Remove what is random in it"
    if len(text) > _LONGEST:
        return f"it makes a prompt of {len(text):,} characters out of {_length(messages):,}"
    if first and "4711" not in text:
        return "it leaves the user's message out"
    return ""


def _length(messages: Sequence[Message]) -> int:
    return sum(len(message["content"]) for message in messages)


# --- the child ----------------------------------------------------------------------------------


def _said_by_a_child(work: Callable[[Callable[[str], None]], None]) -> list[str]:
    """The lines that ``work`` says in a forked process, which is killed beyond its bounds.

    Only a process can be stopped whatever it computes: a power of large numbers ends for no signal
    handler. It ends without running anybody's clean-up.
    """
    ours, its = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's threads; it uses none
        child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            _bound()
            work(lambda line: _write(its, f"{line}\n"))
        finally:
            os._exit(0)
    os.close(its)
    try:
        heard = _read(ours, time.monotonic() + _WAIT)
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return heard.decode(errors="replace").splitlines()


def _bound() -> None:
    faulthandler.disable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    bounds = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, SECONDS)]
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        bounds.append((resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY))
    for kind, most in bounds:
        _, hard = resource.getrlimit(kind)
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (soft, hard))


def _write(pipe: int, text: str) -> None:
    data = text.encode(errors="replace")
    while data:
        data = data[os.write(pipe, data) :]


def _read(pipe: int, until: float) -> bytes:
    """All that comes before the pipe is closed, or time is up."""
    heard = b""
    while (left := until - time.monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            part = os.read(pipe, 1 << 16)
            if not part:
                break
            heard += part
    return heard
