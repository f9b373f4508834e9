"""Handbook: 6 facts about a made-up camp, asked in wordings that training did not have.

The facts are made up, so that nothing but the context tells them.
"""

from opcd_bench.envs.handbook import Handbook


class Handbook6(Handbook):
    """6 facts, in the system message."""

    name = "handbook_6"
    version = 1
    summary = "questions about a made-up camp in new wordings; the context tells its 6 facts"
    facts = 6


TASK = Handbook6
