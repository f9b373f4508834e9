"""The data of the sample browser: small files that the page loads when an example is looked at."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from opcd_bench.report.analysis.stored_samples import Item, Record, SampleSet, ShownMessage
from opcd_bench.report.page.tables import READINGS
from opcd_bench.report.tables.shown_methods import ceiling
from opcd_bench.store.jsonl import zipped

SHARD = 25
"""Items a file."""
LETTERS = {
    "c": "correct", "w": "wrong", "u": "unparsable", "t": "truncated", "f": "failed",
    "s": "skipped", "-": "not stored",
}  # fmt: skip
"""Outcomes as the index writes them, a letter an item."""
LETTER_OF = {outcome: letter for letter, outcome in LETTERS.items()}
FOLDER = "samples"
CALL = "opcdSamples"
"""The object of page.js that the files hand their data to."""


def shards(sets: Sequence[SampleSet]) -> dict[str, bytes]:
    """``samples/index.js`` and ``samples/<task>-<measured>-<n>.js`` of a suite's stored samples.

    Each is a call with JSON, so that a page opened from a file can load it by a script element.
    The index: names of base and ceilings for readers; for each set its items, its columns, and of
    each column a string of outcome letters, one an item. A shard: its name, and `packed` the JSON
    of `SHARD` items: each column's record, with every text stored once.
    """
    readings = {column.reading for one in sets for column in one.columns if not column.method}
    index = {
        "shard": SHARD,
        "letters": LETTERS,
        "readings": {name: READINGS.get(name) or ceiling(name) for name in sorted(readings)},
        "sets": [_index(one) for one in sets],
    }
    files = {f"{FOLDER}/index.js": _script("index", index)}
    for one in sets:
        items = one.items
        for number, start in enumerate(range(0, len(items), SHARD)):
            name = f"{one.stem}-{number}"
            found = _shard(one, items[start : start + SHARD])
            files[f"{FOLDER}/{name}.js"] = _script("shard", {"name": name, "packed": packed(found)})
    return files


def count(files: Mapping[str, bytes]) -> int:
    """How many items the files of `shards` hold."""
    text = files[f"{FOLDER}/index.js"].decode()
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    return sum(len(one["items"]) for one in index["sets"])


def _index(one: SampleSet) -> dict[str, Any]:
    items = one.items
    return {
        "task": one.task,
        "measured": one.measured,
        "split": one.split,
        "stem": one.stem,
        "items": [list(item) for item in items],
        "columns": [column._asdict() for column in one.columns],
        "outcomes": [
            "".join(LETTER_OF[rows[item].outcome] if item in rows else "-" for item in items)
            for rows in one.columns.values()
        ],
    }


def _shard(one: SampleSet, items: Sequence[Item]) -> dict[str, Any]:
    """``texts``; ``records`` that point into them; per item and column a record's number or -1.

    A message: its role and its text; or, with the context in it, a list of which part that is and
    of the parts' texts.
    """
    texts: dict[str, int] = {}
    records: dict[Record, int] = {}

    def number(text: str | None) -> int:
        return -1 if text is None else texts.setdefault(text, len(texts))

    def message(one: ShownMessage) -> list[Any]:
        parts = [number(part) for part in one.parts]
        return [one.role, parts[0] if one.context < 0 else [one.context, *parts]]

    table = [
        [
            records.setdefault(rows[item], len(records)) if item in rows else -1
            for rows in one.columns.values()
        ]
        for item in items
    ]
    written = [
        {
            "answer": number(record.answer),
            "why": number(record.why),
            "turns": [
                {
                    "messages": [message(one) for one in turn.messages],
                    "reply": number(turn.reply),
                    "finish": turn.finish,
                }
                for turn in record.turns
            ],
        }
        for record in records
    ]
    return {"texts": list(texts), "records": written, "items": table}


def packed(value: Mapping[str, Any]) -> str:
    """The JSON of a value as base64 of gzip: responses repeat, so it takes about a sixth."""
    return base64.b64encode(zipped(_json(value))).decode("ascii")


def _script(call: str, value: Mapping[str, Any]) -> bytes:
    """ASCII, so that no reply can end a line, a script or an encoding."""
    return f"{CALL}.{call}({_json(value).decode()});\n".encode("ascii")


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
