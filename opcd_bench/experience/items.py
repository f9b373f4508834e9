"""Items out of a reflection's reply, and those of them that a context of limited size keeps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from opcd_bench.config.experience import Rule
from opcd_bench.envs.thinking import without_thinking
from opcd_bench.envs.worlds.reflection import lessons_of
from opcd_bench.errors import DataError

RULES: tuple[Rule, ...] = get_args(Rule)

_CONTROL = re.compile("[\\x00-\\x08\\x0e-\\x1b\\x7f\\ufeff]")


def items_of(text: str, finish: Literal["stop", "length"]) -> list[str]:
    """The lessons of a reply, in order; what a thinking block says is none.

    A reply that was cut by the length limit loses its last line: it may be half a lesson, and only
    whole ones count. White space is one blank, so that lessons compare word for word, and control
    characters (a NUL) are left out.
    """
    said = without_thinking(text)
    if finish == "length":
        said = said.rpartition("\n")[0]
    return [" ".join(_CONTROL.sub("", lesson).split()) for lesson in lessons_of(said)]


def accumulated(
    items: Sequence[str], rule: Rule, limit: int, tokens: Callable[[Sequence[str]], int]
) -> tuple[str, ...]:
    """The items that a context keeps, oldest first, in at most ``limit`` tokens.

    ``newest``: the newest whole items (arXiv 2602.12275); one that is said again later, letter for
    letter, is kept where it was said last. ``newest-with-repeats`` keeps it as often as it was
    said. ``consensus`` first keeps, of all items that begin with the same word, the one that was
    said most often, the earliest of equals: contradictions are settled by what was seen more often
    (meant for the built-in world, whose lessons begin with what they are about).
    ``tokens`` measures a context of some items. Raises DataError where not a single item fits.
    """
    kept = list(items)
    if rule == "consensus":
        kept = consensus(items)
    elif rule == "newest":
        kept = list(dict.fromkeys(reversed(kept)))[::-1]
    found = _newest(kept, limit, tokens)
    if kept and not found:
        smallest = min(tokens([item]) for item in kept)
        raise DataError(
            f"max_context_tokens = {limit} is too small for a single lesson: the smallest "
            f"context has {smallest} tokens. Raise it: --max-context-tokens {smallest}, or of a "
            f"suite [experience] max_context_tokens = {smallest}"
        )
    return found


def consensus(items: Sequence[str]) -> list[str]:
    """Of the items with one first word the most frequent, the earliest of equals; in order."""
    by_subject: dict[str, Counter[str]] = {}
    for item in items:
        by_subject.setdefault(item.partition(" ")[0], Counter())[item] += 1
    return [counts.most_common(1)[0][0] for counts in by_subject.values()]


def _newest(
    items: Sequence[str], limit: int, tokens: Callable[[Sequence[str]], int]
) -> tuple[str, ...]:
    """The longest end of ``items`` within the limit; what is too long alone is passed over."""
    fitting = [item for item in items if tokens([item]) <= limit]
    first = len(fitting)
    while first > 0 and tokens(fitting[first - 1 :]) <= limit:
        first -= 1
    return tuple(fitting[first:])
