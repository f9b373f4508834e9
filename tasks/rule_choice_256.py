"""Rule choice over 256 rule sets: nothing in a prompt says which one applies.

A student without context can learn no more than the mean over all of them. They are so many that
they stand for one an example.
"""

from opcd_bench.envs.rule_pools import RulePool


class RuleChoice256(RulePool):
    """256 rule sets, each in the system message of its own examples."""

    name = "rule_choice_256"
    version = 1
    summary = "pick one of five numbers by one of 256 rule sets; no prompt says which"
    rule_sets = 256


TASK = RuleChoice256
