"""The executor contract: jobs in, how they ended out; and the one loop that drives any of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from opcd_bench.progress import Reporter
from opcd_bench.runner.cluster.jobs import End, Job, Outcome, Taken


class Executor(Protocol):
    """Where jobs run. It is told of jobs, says how they ended, and forgets those."""

    room: int | None
    """How many jobs it is given at a time; None: all at once, since it has a queue of its own."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin, or queue, jobs that it does not have."""
        ...

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        """Jobs that have ended since the last call; waits ``seconds`` at most for one."""
        ...

    def leave(self) -> None:
        """The driver goes before its jobs have ended: what can go on alone does, the rest stops."""
        ...


PAUSE, LONGEST = 15.0, 600.0
"""Seconds until a job whose folder another process was writing is given out again; then longer."""


@dataclass
class _Again:
    """How often a job had to be given out again, and why."""

    lost: int = 0
    taken: int = 0

    def pause(self) -> float:
        """Seconds until its next turn."""
        return min(PAUSE * 2.0 ** (self.taken - 1), LONGEST)


def drive(
    executor: Executor, jobs: Iterable[Job], *, retries: int, console: Reporter, seconds: float = 2
) -> Iterator[list[Outcome]]:
    """How every job ended, as they end; at least every ``seconds``, if only [].

    A job whose worker was lost is given out again up to ``retries`` times, and goes on from what it
    has stored. One whose folder another process was writing has its turn again, after ever longer
    pauses, until that process has ended: then there is something to do, or it is done. Left early,
    by ctrl-C or an error, the executor is told so.
    """
    waiting, running, later = deque(jobs), 0, list[tuple[float, Job]]()
    again: dict[str, _Again] = {}
    finished = False
    try:
        while waiting or running or later:
            now = time.monotonic()
            waiting += [job for due, job in later if due <= now]
            later = [(due, job) for due, job in later if due > now]
            free = len(waiting) if executor.room is None else executor.room - running
            batch = [waiting.popleft() for _ in range(min(free, len(waiting)))]
            if batch:
                executor.submit(batch)
                running += len(batch)
            if not running:
                time.sleep(min(seconds, min(due for due, _ in later) - now))
                yield []
                continue
            outcomes = []
            for job, end in executor.ended(seconds):
                running -= 1
                if isinstance(end, Outcome):
                    outcomes.append(end)
                    continue
                so_far = again.setdefault(job.name, _Again())
                if isinstance(end, Taken):
                    so_far.taken += 1
                    if so_far.taken == 1:
                        console.warn(f"{job.name}: {end.why}. It has its turn again after that")
                    later.append((time.monotonic() + so_far.pause(), job))
                    continue
                so_far.lost += 1
                if so_far.lost > retries:
                    problem = f"its worker was lost {so_far.lost} times, at last: {end.why}"
                    outcomes.append(Outcome(job.name, problem))
                    continue
                console.warn(f"{job.name}: its worker was lost ({end.why}); it is given out again")
                waiting.append(job)
            yield outcomes
        finished = True
    finally:
        if not finished:
            executor.leave()
