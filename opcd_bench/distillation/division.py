"""Divides the work of a step among processes, each of which goes through as many turns."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.pairs import Pair, micro_batches


class Part(NamedTuple):
    """Pairs that one forward and backward pass takes, each token of a pair with so much weight.

    ``begin``: how many of the step's pairs this process has trained on before. A filler keeps time
    with the other processes: its weights are 0, and nothing of it is counted.
    """

    pairs: Sequence[Pair]
    weights: Sequence[float]
    begin: int
    filler: bool = False


def runs(count: int, processes: int) -> list[range]:
    """``range(count)`` in as many runs of neighbours as there are processes, as even as can be."""
    ends = [count * done // processes for done in range(processes + 1)]
    return [range(begin, end) for begin, end in pairwise(ends)]


def shares(costs: Sequence[int], processes: int) -> list[list[int]]:
    """Which of the things with these costs each process takes, in their order.

    The dearest first, each by the process that has least to do so far (the first of equals).
    """
    loads = [(0, process) for process in range(processes)]
    taken: list[list[int]] = [[] for _ in range(processes)]
    for item in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, process = heapq.heappop(loads)
        taken[process].append(item)
        heapq.heappush(loads, (load + costs[item], process))
    return [sorted(items) for items in taken]


def parts(
    pairs: Sequence[Pair], weights: Sequence[float], suite: Suite, rank: int = 0, processes: int = 1
) -> list[Part]:
    """The micro-batches of one process, as many as the others have: fillers make up for it."""
    mine = _turns(pairs, weights, suite, processes)
    shortest = min(pairs, key=lambda pair: len(pair.plain_ids) + len(pair.reply_ids))
    filler = Part([shortest], [0.0], 0, filler=True)
    return [turn[rank] or filler for turn in zip_longest(*mine)]


def _turns(
    pairs: Sequence[Pair], weights: Sequence[float], suite: Suite, processes: int
) -> list[list[Part]]:
    """The micro-batches of each process."""
    if processes == 1:
        shared = [list(range(len(pairs)))]
    else:
        costs = [len(pair.plain_ids) + len(pair.told_ids) + len(pair.reply_ids) for pair in pairs]
        shared = shares(costs, processes)
    found = []
    for items in shared:
        own, weigh = [pairs[i] for i in items], [weights[i] for i in items]
        cuts = micro_batches(own, suite) if own else []
        found.append([Part(own[cut], weigh[cut], cut.start) for cut in cuts])
    return found
