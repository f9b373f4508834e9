"""Handbook: 48 facts about a made-up camp, asked in wordings that training did not have.

The facts are made up, so that nothing but the context tells them.
"""

from opcd_bench.envs.handbook import Handbook


class Handbook48(Handbook):
    """48 facts, in the system message."""

    name = "handbook_48"
    version = 1
    summary = "questions about a made-up camp in new wordings; the context tells its 48 facts"
    facts = 48


TASK = Handbook48
