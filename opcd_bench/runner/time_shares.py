"""Where the time of runs went: sampling, training, and each kind of scoring."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping

from opcd_bench.errors import StoreError
from opcd_bench.progress import duration
from opcd_bench.store.jsonl import Row
from opcd_bench.store.run_reader import RunReader


def seconds_by_phase(runs: Iterable[RunReader]) -> dict[str, float]:
    """Seconds of the runs' processes by phase; {} where nothing was timed.

    A run whose times are damaged is left out: what is damaged is warned of where it counts.
    """
    total: Counter[str] = Counter()
    for run in runs:
        rows = list[Row]()
        with contextlib.suppress(StoreError):
            rows = run.read("timing")
        for row in rows:
            if "phase" in row:
                total[row["phase"]] += row["seconds"]
            else:
                total["sampling"] += row["seconds_written"]
                total["training"] += row["seconds_trained"]
    return dict(total)


def time_shares(runs: Iterable[RunReader]) -> str | None:
    """``12 min 05 s: training 41 %, sampling 22 %, …``; None where nothing was timed."""
    return shares_of(seconds_by_phase(runs))


def shares_of(seconds: Mapping[str, float]) -> str | None:
    """The same of seconds by phase, the longest first."""
    whole = sum(seconds.values())
    if not whole:
        return None
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    shares = [f"{phase} {100 * part / whole:.0f} %" for phase, part in ordered]
    return f"{duration(whole)}: {', '.join(shares)}"
