"""What rounds came to: each round's context, and what the student scored before and after it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import headline, load, planned, statistics
from opcd_bench.report.analysis.comparable import assert_comparable
from opcd_bench.report.analysis.headline import LEAKS
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.tables import layout, plain_text
from opcd_bench.report.tables.layout import Runs, Section, of_frame
from opcd_bench.store.chain_dir import ROUNDS as FOLDER
from opcd_bench.store.chain_dir import ChainDir, chains, compared, other_settings
from opcd_bench.store.files import removal
from opcd_bench.store.jsonl import Row, read_object
from opcd_bench.store.run_reader import sealed
from opcd_bench.store.suite_dir import SuiteDir, is_suite

TITLE = "rounds"
BEFORE = "before"
"""What the leakage of the student that entered a round is called by."""
KEYS = ["task", "method", "learning_rate", "consolidate", "round"]
ROUNDS = [
    *KEYS, "runs", "items", "tokens", "deployed", "steps", "plain before", "told", "plain after",
    "gain", "since start", "missing",
]  # fmt: skip
"""``items`` and ``tokens``: of the context, mean over seeds; ``deployed``: the mean score of the
plain attempts that it was made of; ``steps``: those that were chosen, by seed; ``gain``: after -
before; ``since start``: after - before round 1; both paired by (example, seed). Each retention task
adds ``<task> after``, ``<task> change`` (in the round) and ``<task> since start``; each of `LEAKS`
``<leak>`` and ``<leak> before`` (the round), where it was looked for. ``missing``: why seeds lack,
or empty."""

SHOWN = {
    "learning_rate": "learning rate", "runs": "seeds", "steps": "step", "plain before": "before",
    "told": "with context", "plain after": "after",
}  # fmt: skip
"""Columns whose stored names are not those that users know."""

NOTE = (
    "In each round the student attempts train examples without a context (deployed: their mean "
    "score), writes lessons from its attempts into a context, and is trained to do without this "
    "context what it does with it. before and after: the student without context, before and "
    "after the round. with context: the student that entered the round, with the round's "
    "context. gain = after - before; since start = after - before round 1; both in points, "
    "paired by example and seed. Test in %. Retention in % after the round, and its change in "
    "points. Intervals: "
)


@dataclass(frozen=True)
class Done:
    """A sealed round of one chain: how its context was made, and what its cell scored."""

    run: str
    seed: int
    record: Row
    results: StoredResults
    task: str

    def after(self, measured: str) -> pd.DataFrame:
        """The trained student's samples on ``test`` or on a retention task, with their seed."""
        samples = self.results.samples
        split = samples["split"] == ("test" if measured == "test" else "retention")
        if measured != "test":
            split &= samples["measured"] == measured
        return samples[split]

    def anchor(self, reading: str, measured: str) -> pd.DataFrame:
        """Samples of ``base`` or ``ceiling``: of this chain's student, so with the chain's seed."""
        return self.results.anchor(reading, self.task, measured).assign(seed=self.seed)

    def retained(self) -> list[str]:
        """The retention tasks."""
        samples = self.results.samples
        return sorted(samples.loc[samples["split"] == "retention", "measured"].unique())


Key = tuple[str, str, float, str]
"""(task, method, learning rate, consolidate): what a row has beside its round."""


def read(root: Path) -> pd.DataFrame:
    """`ROUNDS` of the suite at ``root``, a row a round of (task, method, rate), over its seeds.

    What the suite asks for is there, run or not. Empty where it asks for no chain and has none.
    StoreError where the chains, or a round's numbers, cannot be compared.
    """
    suite = SuiteDir(root).read() if is_suite(root) else {}
    seeds = _planned(suite)
    grouped: dict[Key, list[ChainDir]] = {key: [] for key in seeds}
    for chain in _comparable(root):
        config = chain.config()
        key = (
            str(config["task"]["name"]),
            str(config["method"]["name"]),
            float(config["learning_rate"]),
            str(config["consolidate"]),
        )
        grouped.setdefault(key, []).append(chain)
        seeds.setdefault(key, set()).add(int(config["seed"]))
    last = int(suite.get("rounds", 1))
    rows = [
        row for key, group in sorted(grouped.items()) for row in _rows(key, group, seeds[key], last)
    ]
    return pd.DataFrame(rows, columns=_columns(rows))


def finished(root: Path) -> dict[tuple[str, str, float], list[Done]]:
    """(task, method, learning rate) -> the last round of every chain that has done all of its own.

    StoreError where the chains, or a round's numbers, cannot be compared.
    """
    last = int(SuiteDir(root).read().get("rounds", 1))
    found: dict[tuple[str, str, float], list[Done]] = {}
    for chain in _comparable(root):
        done = list(_done(chain))
        if len(done) >= last:
            config = chain.config()
            key = done[-1].task, str(config["method"]["name"]), float(config["learning_rate"])
            found.setdefault(key, []).append(done[-1])
    return found


def _planned(suite: Mapping[str, Any]) -> dict[Key, set[int]]:
    """The seeds of every chain that suite.json asks for; none where its cells are no chains."""
    if int(suite.get("rounds", 1)) == 1 and suite.get("experience") is None:
        return {}
    nothing = pd.DataFrame()  # no seed of a chain waits for what others have scored
    return {
        (*key, str(suite.get("consolidate", "environment"))): set(
            range(planned.seeds_planned(suite, nothing, key, headline=False))
        )
        for key in planned.planned(suite)
    }


def _comparable(root: Path) -> list[ChainDir]:
    """The chains that were begun, but those without a number that others have left behind.

    That is, whose settings were changed before a round of theirs was done. StoreError where such
    with numbers have other settings than others: one row would mix them.
    """
    first: dict[tuple[str, ...], ChainDir] = {}
    found = []
    for chain in sorted(chains(root), key=lambda chain: not chain.counts):
        config = chain.config()
        others = [first[key] for key in compared(config) if key in first]
        changed = [(one, line) for one in others for line in other_settings(one.config(), config)]
        if not chain.counts:
            found += [] if changed else [chain]
            continue
        if changed:
            lines = "\n".join(dict.fromkeys(f"  {line}" for _, line in changed))
            raise StoreError(
                f"{root}: two of its chains of {config['task']['name']} have different settings, "
                f"which one table must not mix ({changed[0][0].path.name} -> {chain.path.name}):\n"
                f"{lines}\nMove one of them out of {root / FOLDER}, or remove it: "
                f"{removal(chain.path)}"
            )
        for key in compared(config):
            first.setdefault(key, chain)
        found.append(chain)
    return sorted(found, key=lambda chain: chain.path.name)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    others = [name for row in rows for name in row if name not in ROUNDS]
    return [*ROUNDS[:-1], *dict.fromkeys(others), ROUNDS[-1]]


def _rows(
    key: Key, group: Sequence[ChainDir], seeds: Collection[int], planned: int
) -> Iterator[Row]:
    """The rounds of one key that were planned, or that any seed has come to.

    ``seeds``: all that were planned or begun.
    """
    done = [list(_done(chain)) for chain in group]
    failures = [failure for chain in group if (failure := _failure(chain))]
    last = max([planned, *map(len, done), *(number for number, _ in failures)])
    for number in range(1, last + 1):
        here = [rounds[number - 1] for rounds in done if len(rounds) >= number]
        start = [rounds[0] for rounds in done if len(rounds) >= number]
        reasons = [f"failed: {reason}" for at, reason in failures if at == number]
        yield {
            **dict(zip(KEYS, (*key, number), strict=True)),
            **(_scores(here, start) if here else {}),
            "missing": _missing(len(seeds) - len(here), len(seeds), [*reasons, "not run"][0]),
        }


def _missing(lacking: int, of: int, reason: str) -> str:
    if lacking == 0 or of == 1:
        return reason if lacking else ""
    return f"{lacking} of {of} seeds missing ({reason})"


def _done(chain: ChainDir) -> Iterator[Done]:
    """The sealed rounds of a chain, in order."""
    config = chain.config()
    for number, run in enumerate(chain.runs(), 1):
        results = load.load(run.parent)
        record = chain.record(number)
        if record is None or (results.cells["state"] != "done").any():
            return
        assert_comparable(results)
        yield Done(run.name, config["seed"], record, results, config["task"]["name"])


def _failure(chain: ChainDir) -> tuple[int, str] | None:
    """The round at which a chain ended, and why; None where none failed."""
    if stored := chain.failure():
        return int(stored["round"]), str(stored["reason"])
    runs = chain.runs()
    if not runs:
        return None
    cells = load.load(runs[-1].parent).cells
    reasons = [row["reason"] for row in cells.to_dict("records") if row["state"] == "failed"]
    return (len(runs), str(reasons[0])) if reasons else None


def _scores(here: Sequence[Done], start: Sequence[Done]) -> Row:
    """A round's numbers over the seeds that are done; ``start``: round 1 of the same chains."""
    contexts = [done.record["contexts"] for done in here]
    deployed = [d.record["deployed"] for d in here if d.record["deployed"] is not None]
    before = _together(d.anchor("base", "test") for d in here)
    after = _together(d.after("test") for d in here)
    row: Row = {
        "runs": Runs(tuple(done.run for done in here)),
        "items": _mean(sum(one["items"] for one in told) for told in contexts),
        "tokens": _mean(sum(one["tokens"] for one in told) for told in contexts),
        "deployed": Interval(_mean(deployed), math.nan, math.nan, len(deployed)),
        "steps": [int(done.results.cells["chosen_step"].iloc[0]) for done in here],
        "plain before": statistics.mean(before),
        "told": statistics.mean(_together(d.anchor("ceiling", "test") for d in here)),
        "plain after": statistics.mean(after),
        "gain": statistics.difference(after, before),
        "since start": statistics.difference(
            after, _together(d.anchor("base", "test") for d in start)
        ),
    }
    for name in here[0].retained():
        kept = _together(d.after(name) for d in here)
        for column, others in (("change", here), ("since start", start)):
            base = _together(d.anchor("base", name) for d in others)
            row[f"{name} {column}"] = statistics.difference(kept, base)
        row[f"{name} after"] = statistics.mean(kept)
    leaks = [done.results.leaks for done in here]
    if not any(one.empty for one in leaks):
        base = _together(d.results.leaks_base.assign(seed=d.seed) for d in here)
        row |= headline.leaked(_together(leaks), base, BEFORE)
    return row


def _together(frames: Any) -> pd.DataFrame:
    return pd.concat(list(frames), ignore_index=True)


def _mean(values: Any) -> float:
    known = [float(value) for value in values]
    return sum(known) / len(known) if known else math.nan


def sections(table: pd.DataFrame) -> list[Section]:
    """The rounds as people read them, a section a task; NOTE belongs to the last."""
    found = []
    for task, rows in table.groupby("task", sort=False):
        shown = rows.drop(columns="task").rename(columns=SHOWN)
        shown["learning rate"] = [f"{rate:g}" for rate in shown["learning rate"]]
        shown = shown.assign(
            round=[str(number) for number in shown["round"]],
            step=[", ".join(map(str, s)) if isinstance(s, list) else "" for s in shown["step"]],
            **{name: [_count(mean) for mean in shown[name]] for name in ("items", "tokens")},
        )
        empty = [c for c in shown if shown[c].isna().all() or (shown[c] == "").all()]
        none = [name for name in LEAKS if name not in layout.leaking(rows, BEFORE)]
        empty += [c for n in none for c in (n, f"{n} {BEFORE}") if c in shown and c not in empty]
        if set(shown["consolidate"]) == {"environment"}:
            empty.append("consolidate")
        found.append(of_frame(f"{task}: rounds", shown.drop(columns=empty)))
    note = f"{NOTE}{statistics.method(table.to_numpy().ravel())}."
    notes = (note, *layout.of_leaks(table, BEFORE))
    return [*found[:-1], replace(found[-1], notes=notes)] if found else []


def _count(mean: float) -> str:
    """A mean of counts, with a decimal where it is no whole number."""
    if math.isnan(mean):
        return ""
    return f"{mean:,.0f}" if mean == round(mean) else f"{mean:,.1f}"


def contexts(root: Path) -> list[tuple[str, str]]:
    """What teachers read in the sealed rounds of a suite: what each context is, and its text."""
    found = []
    for chain in _comparable(root):
        config = chain.config()
        about = f"{config['task']['name']}, {config['method']['name']}, seed {config['seed']}"
        for number, run in enumerate(chain.runs(), 1):
            record = chain.record(number)
            if record is None or not sealed(run):
                break
            for one in record["contexts"]:
                text = str(read_object(chain.path / one["file"])["text"])
                length = f"{one['items']} items, {one['tokens']:,} tokens"
                found.append((f"{about}, round {number}: {length}", text))
    return found


def as_text(table: pd.DataFrame) -> str:
    """The rounds for a terminal."""
    if table.empty:
        return "no round has run yet"
    return "\n\n".join(plain_text.section_text(section) for section in sections(table))
