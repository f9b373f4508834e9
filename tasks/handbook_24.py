"""Handbook: 24 facts about a made-up camp, asked in wordings that training did not have.

The facts are made up, so that nothing but the context tells them.
"""

from opcd_bench.envs.handbook import Handbook


class Handbook24(Handbook):
    """24 facts, in the system message."""

    name = "handbook_24"
    version = 1
    summary = "questions about a made-up camp in new wordings; the context tells its 24 facts"
    facts = 24


TASK = Handbook24
