"""Writes the records of ``ifeval_micro``: instructions in combinations that pre-training left out.

``python -m opcd_bench.evaluation.lm_eval_tasks.build`` rewrites ``ifeval_micro.jsonl`` beside this
file; the records are a function of ``COUNTS`` alone. Changing them moves numbers: raise the version
in the YAML, and say so in reports/LOG.md.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from opcd_bench.envs.worlds.instructions import (
    BY_ID,
    KINDS,
    PAIRS,
    ask_for,
    held_out_pair,
    held_out_topic,
    prompt_of,
)
from opcd_bench.envs.worlds.text import TOPICS, Topic
from opcd_bench.seeds import generator

COUNTS: Mapping[str, int] = {
    "single": 120,
    "single_counting": 80,
    "pair_seen": 80,
    "pair_held_out": 100,
    "triple": 20,
}
"""How many records of each hardness, easy first; the dial of the task's difficulty.

``single``: one instruction without counting. ``single_counting``: one that takes counting.
``pair_seen``: two types that pre-training also put together. ``pair_held_out``: two that it never
did. ``triple``: three at once, which it never asks for. In every record each instruction's type is
one that pre-training never asked for about this topic.
"""
KEY_OF = {name: 1000 * (place + 1) for place, name in enumerate(COUNTS)}
"""Keys of a hardness start here, so that a record's key tells its hardness."""

PATH = Path(__file__).with_name("ifeval_micro.jsonl")


def _types_of(hardness: str) -> Sequence[tuple[str, ...]]:
    if hardness in ("single", "single_counting"):
        return [(kind.id,) for kind in KINDS if kind.counts == (hardness == "single_counting")]
    if hardness == "triple":
        pairs = set(PAIRS)
        ids = [kind.id for kind in KINDS]
        return [three for three in combinations(ids, 3) if pairs.issuperset(combinations(three, 2))]
    return [pair for pair in PAIRS if held_out_pair(*pair) == (hardness == "pair_held_out")]


def _free_topics(types: tuple[str, ...]) -> list[Topic]:
    return [topic for topic in TOPICS if all(held_out_topic(one, topic.noun) for one in types)]


def records(counts: Mapping[str, int] = COUNTS) -> list[dict[str, Any]]:
    """The records in IFEval's format; no prompt is there twice.

    The hardnesses are interleaved in proportion, so that the first records (lm-eval's ``limit``)
    have the mix of all of them.
    """
    rows: list[tuple[float, dict[str, Any]]] = []
    prompts: set[str] = set()
    for hardness, count in counts.items():
        rng = generator("ifeval_micro", "records", hardness)
        turns = _turns(rng, _types_of(hardness))
        for place in range(count):
            while True:
                types, topic = next(turns)
                request, asks, _ = ask_for(rng, topic, types)
                prompt = prompt_of(request, asks)
                if prompt not in prompts:
                    break
            prompts.add(prompt)
            row = {
                "key": KEY_OF[hardness] + place,
                "prompt": prompt,
                "instruction_id_list": [ask.id for ask in asks],
                "kwargs": [dict(ask.kwargs) for ask in asks],
            }
            rows.append(((place + 0.5) / count, row))
    return [row for _, row in sorted(rows, key=lambda ranked: ranked[0])]


def _turns(
    rng: random.Random, choices: Sequence[tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], Topic]]:
    """Types in rounds, so that each comes equally often; the topic is held out for all of them."""
    possible = [(types, topics) for types in choices if (topics := _free_topics(types))]
    while True:
        for types, topics in rng.sample(possible, len(possible)):
            yield types, rng.choice(topics)


def text_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The records as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(say: Callable[[str], None] = print) -> None:
    """Write the records and say how many there are of each type."""
    rows = records()
    PATH.write_text(text_of(rows), encoding="utf-8")
    say(f"{PATH}: {len(rows)} records")
    types = Counter(one for row in rows for one in row["instruction_id_list"])
    for name in BY_ID:
        say(f"{types[name]:5d}  {name}")


if __name__ == "__main__":
    main()
