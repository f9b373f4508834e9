"""Stored samples with their texts: a set a task and measure, a column an anchor or a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from opcd_bench.config.measures import NATS
from opcd_bench.envs.task import Context, Contexts
from opcd_bench.store.jsonl import Row
from opcd_bench.store.run_reader import CONFIG, RunReader
from opcd_bench.store.suite_dir import SHARED, SharedDir

TOLD = "told"
"""Of a stored row's reading: its prompts were read with the context."""
GAP = "\n\n"
"""Between the parts of a message that the context was put into."""

Item = tuple[str, int]
"""(example id, number of the sample)."""


class ShownMessage(NamedTuple):
    """A role and the parts of what it says, an empty line between them.

    ``context``: which part is the context, -1 where none is.
    """

    role: str
    parts: tuple[str, ...]
    context: int = -1


class ShownTurn(NamedTuple):
    """What was read, and what was replied."""

    messages: tuple[ShownMessage, ...]
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


def sample_sets(root: Path, contexts: Mapping[str, Contexts] | None = None) -> list[SampleSet]:
    """The sets of a suite, by task, the task's own test set first.

    Only sealed runs count. Anchors come first, then runs by method, rate and seed. ``contexts``:
    task -> what was told, which then stands in the prompts that were read with it.
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
        for reading, folder, name in sorted(anchors.get(key, ()), key=itemgetter(0, 2, 1)):
            rows = SharedDir(root / SHARED / folder).get(name)[1:]
            column = Column.anchor(reading, name)
            told = Told((contexts or {}).get(one.task), one.task, column.seed)
            one.columns[column] = dict(_records(rows, texts, told))
    for key, column, reader, name in sorted(runs, key=lambda run: run[:2]):
        rows = reader.read(f"samples/{name}")
        sets[key].columns[column] = dict(_records(rows, texts, Told(None, key[0], column.seed)))
    return list(sets.values())


class Told(NamedTuple):
    """The contexts that rows were read with; None where they are not known."""

    contexts: Contexts | None
    task: str
    seed: int

    def of(self, row: Row) -> Context | None:
        """The context that a row was read with; None for one read without, or not known."""
        if self.contexts is None or row.get("reading") != TOLD:
            return None
        return self.contexts.of(self.task, self.seed, str(row["example_id"]))


def read_with(messages: Sequence[Row], context: Context | None) -> tuple[ShownMessage, ...]:
    """Messages as they were read: with the context in the one that it was put into."""
    without = [{"role": str(m["role"]), "content": str(m["content"])} for m in messages]
    if context is None or not context.text:
        return tuple(ShownMessage(m["role"], (m["content"],)) for m in without)
    found = []
    for message in context.tell(without):
        before, there, after = message["content"].partition(context.text)
        if not there or message in without:
            found.append(ShownMessage(message["role"], (message["content"],)))
            continue
        parts = [before.removesuffix(GAP), there, after.removeprefix(GAP)]
        kept = tuple(part for part in parts if part)
        found.append(ShownMessage(message["role"], kept, int(bool(parts[0]))))
    return tuple(found)


def _records(
    rows: Sequence[Row], texts: dict[str, str], told: Told
) -> Iterator[tuple[Item, Record]]:
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
                        tuple(
                            ShownMessage(once(role), tuple(map(once, parts)), at)
                            for role, parts, at in read_with(turn["messages"], told.of(row))
                        ),
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
