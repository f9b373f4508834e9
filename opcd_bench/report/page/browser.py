"""The data of the sample browser: small files that the page loads when an example is looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from opcd_bench.config.measures import NATS
from opcd_bench.store.jsonl import Row, read_rows
from opcd_bench.store.run_reader import CONFIG, RunReader
from opcd_bench.store.suite_dir import SHARED

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

Item = tuple[str, int]
"""(example id, number of the sample)."""


class ShownTurn(NamedTuple):
    """What was read, as (role, text), and what was replied."""

    messages: tuple[tuple[str, str], ...]
    reply: str
    finish: str


class Record(NamedTuple):
    """One stored sample as the page shows it."""

    outcome: str
    answer: str | None
    why: str | None
    turns: tuple[ShownTurn, ...]


class Column(NamedTuple):
    """Whose samples: ``reading`` is base, ceiling or another anchor, or "method" for a run's."""

    reading: str
    method: str
    rate: float
    seed: int
    run: str

    @classmethod
    def anchor(cls, reading: str, name: str) -> Column:
        """Of an anchor, whose seed stands at the end of its name where it depends on one."""
        seed = name.rpartition("-s")[2]
        return cls(reading, "", 0.0, int(seed) if seed.isdigit() else 0, "")


@dataclass
class SampleSet:
    """The stored samples of one (task, measured set): a column an anchor or run, an item a row."""

    task: str
    measured: str
    split: str
    columns: dict[Column, dict[Item, Record]] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """What its files are called."""
        return f"{self.task}-{self.measured}"

    @property
    def items(self) -> list[Item]:
        """Every item that some column has, in the order in which it was first stored."""
        return list(dict.fromkeys(item for column in self.columns.values() for item in column))


def shards(root: Path) -> dict[str, bytes]:
    """``samples/index.js`` and ``samples/<task>-<measured>-<n>.js`` of the sealed runs of a suite.

    Each is a call with JSON, so that a page opened from a file can load it by a script element.
    The index: for each set its items, its columns, and of each column a string of outcome letters,
    one an item. A shard: of `SHARD` items each column's record, with every text stored once.
    """
    sets = sample_sets(root)
    index = {"shard": SHARD, "letters": LETTERS, "sets": [_index(one) for one in sets]}
    files = {f"{FOLDER}/index.js": _script("index", index)}
    for one in sets:
        items = one.items
        for number, start in enumerate(range(0, len(items), SHARD)):
            name = f"{one.stem}-{number}"
            found = _shard(one, items[start : start + SHARD])
            files[f"{FOLDER}/{name}.js"] = _script("shard", {"name": name, **found})
    return files


def count(files: Mapping[str, bytes]) -> int:
    """How many items the files of `shards` hold."""
    text = files[f"{FOLDER}/index.js"].decode()
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    return sum(len(one["items"]) for one in index["sets"])


def sample_sets(root: Path) -> list[SampleSet]:
    """The sets of a suite, by task, the task's own test set first.

    Only sealed runs count. Anchors come first, then runs by method, rate and seed.
    """
    sets: dict[tuple[str, str, str], SampleSet] = {}
    anchors: dict[tuple[str, str, str], set[tuple[str, str, str]]] = {}
    runs: list[tuple[tuple[str, str, str], Column, RunReader, str]] = []
    for config_file in sorted(root.glob(f"*/{CONFIG}")):
        reader = RunReader(config_file.parent)
        if not reader.sealed:
            continue
        config = reader.config
        task = config["task"]["name"]
        column = Column("method", config["method"]["name"], config["learning_rate"],
                        config["seed"], reader.path.name)  # fmt: skip
        for name in reader.sample_names():
            if not name.startswith(("scores-", f"{NATS}-")):
                measured = name.removeprefix("retention-") if name != "test" else task
                key = (task, measured, "test" if name == "test" else "retention")
                runs.append((key, column, reader, name))
        for anchor in reader.summary.get("anchors", []):
            folder, name, reading = anchor["shared"], anchor["name"], anchor["reading"]
            if folder.startswith(f"{NATS}-"):
                continue
            measured, _, _ = folder.removeprefix("retention-").rpartition("--")
            key = (task, measured, "retention" if folder.startswith("retention-") else "test")
            anchors.setdefault(key, set()).add((reading, folder, name))
    texts: dict[str, str] = {}
    for key in sorted({run[0] for run in runs}, key=lambda key: (key[0], key[2] != "test", key)):
        one = sets[key] = SampleSet(*key)
        for reading, folder, name in sorted(anchors.get(key, ())):
            rows = read_rows(root / SHARED / folder / f"{name}.jsonl")[1:]
            one.columns[Column.anchor(reading, name)] = dict(_records(rows, texts))
    for key, column, reader, name in sorted(runs, key=lambda run: run[:2]):
        sets[key].columns[column] = dict(_records(reader.read(f"samples/{name}"), texts))
    return list(sets.values())


def _records(rows: Sequence[Row], texts: dict[str, str]) -> Iterator[tuple[Item, Record]]:
    """Rows as records; equal texts become one object, so that many columns fit into memory."""

    def once(text: object) -> str:
        return texts.setdefault(str(text), str(text))

    for row in rows:
        answer, why = row.get("answer"), row.get("why") or _instructions(row)
        yield (
            (once(row["example_id"]), int(row.get("sample", 0))),
            Record(
                outcome=once(row["outcome"]),
                answer=None if answer is None else once(answer),
                why=None if not why else once(why),
                turns=tuple(
                    ShownTurn(
                        tuple((once(m["role"]), once(m["content"])) for m in turn["messages"]),
                        once(turn["reply"]),
                        once(turn["finish"]),
                    )
                    for turn in _turns(row)
                ),
            ),
        )


def _turns(row: Row) -> list[Row]:
    """The turns of a row; a sample of lm-eval has one, whose prompt is a finished text."""
    if "turns" in row:
        turns: list[Row] = row["turns"]
        return turns
    messages = [{"role": "prompt", "content": row["prompt"]}]
    return [{"messages": messages, "reply": row["reply"], "finish": row.get("finish") or ""}]


def _instructions(row: Row) -> str:
    """Which instructions of an IFEval sample were followed; nothing for other samples."""
    followed = row.get("values", {}).get("inst_level_strict_acc")
    if not followed or not row.get("instruction_ids"):
        return ""
    pairs = zip(row["instruction_ids"], followed, strict=True)
    return "; ".join(f"{kind}: {'followed' if done else 'not followed'}" for kind, done in pairs)


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
    """``texts``; ``records`` that point into them; per item and column a record's number or -1."""
    texts: dict[str, int] = {}
    records: dict[Record, int] = {}

    def number(text: str | None) -> int:
        return -1 if text is None else texts.setdefault(text, len(texts))

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
                    "messages": [[role, number(text)] for role, text in turn.messages],
                    "reply": number(turn.reply),
                    "finish": turn.finish,
                }
                for turn in record.turns
            ],
        }
        for record in records
    ]
    return {"texts": list(texts), "records": written, "items": table}


def _script(call: str, value: Mapping[str, Any]) -> bytes:
    """ASCII, so that no reply can end a line, a script or an encoding."""
    return f"{CALL}.{call}({json.dumps(value, separators=(',', ':'))});\n".encode("ascii")
