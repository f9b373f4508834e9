"""The executor contract: jobs in, how they ended out; and the one loop that drives any of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from opcd_bench.progress import Reporter
from opcd_bench.runner.cluster.jobs import Job, Lost, Outcome


class Executor(Protocol):
    """Where jobs run. It is told of jobs, says how they ended, and forgets those."""

    room: int | None
    """How many jobs it is given at a time; None: all at once, since it has a queue of its own."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin, or queue, jobs that it does not have."""
        ...

    def ended(self, seconds: float) -> list[tuple[Job, Outcome | Lost]]:
        """Jobs that have ended since the last call; waits ``seconds`` at most for one."""
        ...

    def leave(self) -> None:
        """The driver goes before its jobs have ended: what can go on alone does, the rest stops."""
        ...


def drive(
    executor: Executor, jobs: Iterable[Job], *, retries: int, console: Reporter, seconds: float = 2
) -> Iterator[list[Outcome]]:
    """How every job ended, as they end; at least every ``seconds``, if only [].

    A job whose worker was lost is given out again up to ``retries`` times, and goes on from what it
    has stored. Left early, by ctrl-C or an error, the executor is told so.
    """
    waiting, running, lost = deque(jobs), 0, dict[str, int]()
    finished = False
    try:
        while waiting or running:
            free = len(waiting) if executor.room is None else executor.room - running
            batch = [waiting.popleft() for _ in range(min(free, len(waiting)))]
            if batch:
                executor.submit(batch)
                running += len(batch)
            outcomes = []
            for job, end in executor.ended(seconds):
                running -= 1
                if isinstance(end, Outcome):
                    outcomes.append(end)
                    continue
                lost[job.name] = times = lost.get(job.name, 0) + 1
                if times > retries:
                    problem = f"its worker was lost {times} times, at last: {end.why}"
                    outcomes.append(Outcome(job.name, problem))
                    continue
                console.warn(f"{job.name}: its worker was lost ({end.why}); it is given out again")
                waiting.append(job)
            yield outcomes
        finished = True
    finally:
        if not finished:
            executor.leave()
