"""Handbook: 200 facts about a made-up camp, asked in wordings that training did not have.

The facts are made up, so that nothing but the context tells them.
"""

from opcd_bench.envs.handbook import Handbook


class Handbook200(Handbook):
    """200 facts, in the system message."""

    name = "handbook_200"
    version = 1
    summary = "questions about a made-up camp in new wordings; the context tells its 200 facts"
    facts = 200


TASK = Handbook200
