"""One example's responses side by side: before training, after it, and with the context."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from opcd_bench.config.measures import NATS
from opcd_bench.errors import StoreError, UnknownName
from opcd_bench.report.analysis import headline
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.store.jsonl import Row
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SHARED, SharedDir

OTHERS = ("retention-", f"{NATS}-")
"""How the folders of shared scores begin that are not on the task."""

HEADS = ("before training", "after training", "with context")


class Response(NamedTuple):
    """What was answered, what became of it, and the answer that was read from it, if any.

    ``outcome``: correct, wrong, unparsable, truncated, failed or skipped.
    """

    text: str
    outcome: str
    answer: str | None


@dataclass(frozen=True)
class SideBySide:
    """One test example: its prompt and three responses to it.

    ``before``: the student before training, without context; ``after``: the student that ``run``
    trained by ``method``, without context; ``with_context``: its in-context teacher. The prompt is
    the first turn's, without context. Shown as a table in a notebook, and printed as text.
    """

    task: str
    method: str
    run: str
    example_id: str
    prompt: str
    before: Response
    after: Response
    with_context: Response

    @property
    def responses(self) -> tuple[Response, Response, Response]:
        """Before training, after training, with context."""
        return self.before, self.after, self.with_context

    def frame(self) -> pd.DataFrame:
        """A row each of `HEADS`, with columns text, outcome and answer."""
        return pd.DataFrame(self.responses, index=list(HEADS), columns=list(Response._fields))

    def __repr__(self) -> str:
        parts = [f"{self.task}, example {self.example_id}, method {self.method}\n\n{self.prompt}"]
        for head, one in zip(HEADS, self.responses, strict=True):
            parts.append(f"--- {head}: {one.outcome} ---\n{one.text}")
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        heads = "".join(
            f"<th>{head}<br>{escape(one.outcome)}</th>"
            for head, one in zip(HEADS, self.responses, strict=True)
        )
        texts = "".join(f"<td>{_preformatted(one.text)}</td>" for one in self.responses)
        title = f"{self.task}, example {self.example_id}, method {self.method}"
        return (
            f"<p>{escape(title)}</p>\n{_preformatted(self.prompt)}\n"
            f"<table>\n<thead><tr>{heads}</tr></thead>\n"
            f'<tbody><tr style="vertical-align: top">{texts}</tr></tbody>\n</table>'
        )


def _preformatted(text: str) -> str:
    return f'<pre style="text-align: left; white-space: pre-wrap">{escape(text)}</pre>'


def side_by_side(
    results: StoredResults,
    example_id: str | None = None,
    *,
    task: str | None = None,
    method: str | None = None,
) -> SideBySide:
    """The responses to one test example, at the method's headline learning rate, first seed.

    ``task`` and ``method``: by default the first of the suite that has a finished run.
    ``example_id``: by default the first example that was wrong before training and is correct after
    it and with context; where there is none, the first whose outcome training changed; else the
    first. Raises UnknownName for a task, method or example that has no finished run, StoreError
    where nothing has.
    """
    task, method, run = _run(results, task, method)
    reader = RunReader(results.root / run)
    after = _by_example(reader.read("samples/test"))
    teacher = results.ceiling_name(task, method)
    if results.ceiling(task, method).empty:  # what it reads, test examples do not have
        teacher = "ceiling"
    before, told = (_anchor(results.root, reader, name) for name in ("base", teacher))
    both = [example for example in after if example in before and example in told]
    if not both:
        raise StoreError(f"{reader.path}: its test examples have no responses to stand beside")
    if example_id is None:
        example_id = _telling(both, before, after, told)
    elif example_id not in both:
        near = difflib.get_close_matches(example_id, both, cutoff=0.5) or both[:3]
        raise UnknownName("example", example_id, near, f"There are {len(both)}: results.samples.")
    return SideBySide(
        task=task,
        method=method,
        run=run,
        example_id=example_id,
        prompt=_prompt(after[example_id]),
        before=_response(before[example_id]),
        after=_response(after[example_id]),
        with_context=_response(told[example_id]),
    )


def _run(results: StoredResults, task: str | None, method: str | None) -> tuple[str, str, str]:
    """Task, method, and the finished run that is shown of them."""
    points = headline.points(results)
    if points.empty:
        raise StoreError(f"{results.root}: no run is done, so there is no response to show")
    task = task or _first(results.suite.get("tasks", []), points["task"])
    if task not in set(points["task"]):
        raise UnknownName("task", task, set(points["task"]), where="with a finished run")
    points = points[points["task"] == task]
    method = method or _first(results.suite.get("methods", []), points["method"])
    if method not in set(points["method"]):
        raise UnknownName("method", method, set(points["method"]), where="with a finished run")
    point = points[points["method"] == method].iloc[0]
    cells = results.cells[results.cells["state"] == "done"]
    for name in ("task", "method", "learning_rate"):
        cells = cells[cells[name] == point[name]]
    return task, method, str(cells.sort_values("seed")["run"].iloc[0])


def _first(order: Sequence[str], finished: Iterable[str]) -> str:
    """The first of the suite's that is there; else the first by name."""
    there = set(finished)
    return next((name for name in order if name in there), min(there))


def _anchor(root: Path, reader: RunReader, reading: str) -> dict[str, Row]:
    """The test samples of the base or the ceiling that a run was measured against."""
    found: dict[str, Row] = {}
    for anchor in reader.summary.get("anchors", []):
        if anchor["reading"] == reading and not anchor["shared"].startswith(OTHERS):
            rows = SharedDir(root / SHARED / anchor["shared"]).get(anchor["name"])[1:]
            found |= _by_example(rows)
    return found


def _by_example(rows: Sequence[Row]) -> dict[str, Row]:
    """The first sample of each test example that has its texts."""
    found: dict[str, Row] = {}
    for row in rows:
        if row["split"] == "test" and row.get("turns"):
            found.setdefault(row["example_id"], row)
    return found


def _telling(
    examples: Sequence[str],
    before: Mapping[str, Row],
    after: Mapping[str, Row],
    told: Mapping[str, Row],
) -> str:
    right = [one for one in examples if after[one]["outcome"] == told[one]["outcome"] == "correct"]
    learnt = [one for one in right if before[one]["outcome"] != "correct"]
    changed = [one for one in examples if before[one]["outcome"] != after[one]["outcome"]]
    return [*learnt, *changed, *examples][0]


def _prompt(row: Row) -> str:
    """The first turn's messages; a single user message by itself."""
    messages: list[dict[str, Any]] = row["turns"][0]["messages"]
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _response(row: Row) -> Response:
    """The response; of a game all of them, one after the other."""
    replies = [str(turn["reply"]) for turn in row["turns"]]
    if len(replies) > 1:
        replies = [f"turn {number}: {reply}" for number, reply in enumerate(replies, 1)]
    answer = row.get("answer")
    return Response("\n".join(replies), row["outcome"], None if answer is None else str(answer))
