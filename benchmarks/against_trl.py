"""Time a whole step beside TRL's on the same work, round by round; prints ratios and phases.

make bench                                             every workload, into docs/speed.md
python benchmarks/against_trl.py --workload told_512 --rounds 3
python benchmarks/against_trl.py --smoke               tiny sizes: does it run, do losses agree

Needs `trl`, which the extra `bench` brings. A step: sample, score by the teacher, loss, backward,
AdamW. Each side runs in a process of its own, one at a time, on the same model files and prompts.
The first step of both is on the same replies, and its losses and gradient norms must agree.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beside_trl import machine, table
from beside_trl.workloads import WORKLOADS, Workload, smoke

from opcd_bench.store import environment

LEARNING_RATE = 1e-6
WARM_UP = 2
"""Steps before the rounds: the checked one, and one that samples on both sides."""


def main() -> int:
    """Measure, print, write; 1 where losses differ or a side ends early."""
    words = _words()
    if words.side:
        return _be(words)
    if importlib.util.find_spec("trl") is None:
        print("trl is not installed here; type: make bench", file=sys.stderr)
        return 1
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for name in words.workload:
            workload = _workload(name, words)
            try:
                one = measure(workload, Path(folder), words)
            except Failed as failure:
                print(f"{name}: {failure}", file=sys.stderr)
                return 1
            measured.append(one)
            print(_line(one), flush=True)
    text = table.markdown(measured, header(words, measured))
    print(f"\n{text}")
    if words.write:
        before = words.write.read_text(encoding="utf-8") if words.write.exists() else ""
        words.write.write_text(table.put(before, text), encoding="utf-8")
    return 0


class Failed(Exception):
    """A comparison that cannot be made: why."""


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--workload", type=_names, default=list(WORKLOADS), help=f"any of {','.join(WORKLOADS)}"
    )
    parser.add_argument("--rounds", type=_count, default=5)
    parser.add_argument("--threads", type=_count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for no figures")
    for hidden in ("--side", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser.parse_args()


def _names(text: str) -> list[str]:
    found = text.split(",")
    unknown = [name for name in found if name not in WORKLOADS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}"
        )
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _workload(name: str, words: argparse.Namespace) -> Workload:
    return smoke(WORKLOADS[name]) if words.smoke else WORKLOADS[name]


def _be(words: argparse.Namespace) -> int:
    """Be one side, or write the model files: what the process that was started does."""
    from beside_trl.side import Channel

    channel = Channel()
    import torch

    torch.set_num_threads(words.threads)
    workload, folder = _workload(words.workload[0], words), Path(words.folder)
    if words.side == "files":
        from beside_trl import files

        files.write(workload.shape, folder)
    elif words.side == "ours":
        from beside_trl import ours

        ours.serve(workload, folder, LEARNING_RATE, channel)
    else:
        from beside_trl import theirs

        steps = WARM_UP + words.rounds
        theirs.Theirs(workload, folder, LEARNING_RATE, steps, channel).serve()
    return 0


class Process:
    """A side in a process of its own."""

    def __init__(self, side: str, workload: str, folder: Path, words: argparse.Namespace) -> None:
        self.side = side
        self._said = folder / f"{side}.log"
        command = [sys.executable, __file__, "--side", side, "--workload", workload]
        command += ["--folder", str(folder), "--rounds", str(words.rounds)]
        command += ["--threads", str(words.threads), *["--smoke"] * words.smoke]
        quiet = {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
        with self._said.open("w", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env={**os.environ, **quiet, "OMP_NUM_THREADS": str(words.threads)},
            )

    def heard(self) -> dict[str, Any]:
        """The next line; raises Failed with what the side last said where it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.side} ended early:\n{self._said.read_text()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def step(self, **values: Any) -> dict[str, Any]:
        """Ask for a step."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(values) + "\n")
        self.process.stdin.flush()
        return self.heard()


@contextmanager
def started(side: str, name: str, folder: Path, words: argparse.Namespace) -> Iterator[Process]:
    """A side, until the block is left."""
    found = Process(side, name, folder, words)
    try:
        yield found
    finally:
        if found.process.stdin:
            found.process.stdin.close()
        try:
            found.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            found.process.kill()
            found.process.wait()


def measure(workload: Workload, root: Path, words: argparse.Namespace) -> table.Measured:
    """All rounds of a workload."""
    folder = root / workload.shape.name.replace(" ", "_")
    if not folder.exists():
        folder.mkdir()
        with started("files", workload.name, folder, words) as files:
            if files.process.wait():
                files.heard()
    with (
        started("ours", workload.name, folder, words) as ours,
        started("trl", workload.name, folder, words) as trl,
    ):
        peak = ours.heard()["product_peak"]
        trl.heard()
        first = agreed(workload, ours, trl)
        for side in (ours, trl):
            side.step()
        pids = [os.getpid(), ours.process.pid, trl.process.pid]
        steps: dict[str, list[Mapping[str, Any]]] = {"ours": [], "trl": []}
        others, load = [], []
        for number in range(words.rounds):
            before = machine.look(pids)
            time.sleep(1.0)
            others.append(machine.by_others(before, machine.look(pids)))
            load.append(machine.load_average())
            before = machine.look(pids)
            for side in (ours, trl) if number % 2 == 0 else (trl, ours):
                steps[side.side].append(side.step())
            others.append(machine.by_others(before, machine.look(pids)))
        return table.Measured(workload, steps, first, peak, others, load)


def agreed(workload: Workload, ours: Process, trl: Process) -> dict[str, dict[str, float]]:
    """Loss and gradient norm of both on the same replies; raises Failed where they differ."""
    one = ours.step()
    other = trl.step(replies=one["replies"])
    found = {"ours": one, "trl": other}
    for what in ("loss", "norm"):
        a, b = one[what], other[what]
        if not abs(a - b) <= workload.tolerance * max(abs(a), abs(b)):
            raise Failed(
                f"the first {what} on the same replies is {a:.6g} for us and {b:.6g} for TRL, "
                f"more than {workload.tolerance:g} apart: they do not do the same work"
            )
    return {side: {what: step[what] for what in ("loss", "norm")} for side, step in found.items()}


def _line(one: table.Measured) -> str:
    """One workload in a line, as soon as it is done."""
    a, b = one.first["ours"], one.first["trl"]
    return (
        f"{one.workload.name}: {one.ratio:.2f} times as fast as TRL's {one.workload.trainer}; "
        f"first loss {a['loss']:.6g} and {b['loss']:.6g}, gradient norm {a['norm']:.6g} and "
        f"{b['norm']:.6g} (allowed: {one.workload.tolerance:g} apart); other processes used "
        f"{max(one.others):.0%} of the CPU"
    )


def header(words: argparse.Namespace, measured: list[table.Measured]) -> list[str]:
    """Where the figures are from."""
    where = environment.describe()
    commit = (where["git"]["commit"] or "unknown")[:10]
    commit += " (changed)" * bool(where["git"]["dirty"])
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl")}
    speeds: dict[str, list[float]] = {}
    for one in measured:
        found = [one.product_peak[dtype] / 1e9 for dtype in ("float32", "bfloat16")]
        best = speeds.get(one.workload.shape.name, [0.0, 0.0])
        speeds[one.workload.shape.name] = [max(pair) for pair in zip(best, found, strict=True)]
    said = [f"{name}: {a:.0f} float32, {b:.0f} bfloat16" for name, (a, b) in speeds.items()]
    return [
        *["Tiny sizes (`--smoke`): these figures mean nothing.", ""] * words.smoke,
        f"{datetime.date.today()}, commit {commit}, "
        f"{where['machine']['cpu']}, {words.threads} threads, {words.rounds} rounds, "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}.",
        f"Products of the model's own shapes, GFLOP/s: {'; '.join(said)}.",
    ]


if __name__ == "__main__":
    sys.exit(main())
