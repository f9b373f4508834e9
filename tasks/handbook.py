"""Handbook: 12 facts about a made-up camp, asked in wordings that training did not have.

The facts are made up, so that nothing but the context tells them.
"""

from opcd_bench.envs.handbook import Handbook


class Handbook12(Handbook):
    """12 facts, in the system message."""

    name = "handbook"
    version = 1
    summary = "questions about a made-up camp in new wordings; the context tells its 12 facts"
    facts = 12


TASK = Handbook12
