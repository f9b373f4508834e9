"""Rule choice over 2 rule sets: nothing in a prompt says which one applies.

A student without context can learn no more than the mean over all of them.
"""

from opcd_bench.envs.rule_pools import RulePool


class RuleChoice2(RulePool):
    """2 rule sets, each in the system message of its own examples."""

    name = "rule_choice_2"
    version = 1
    summary = "pick one of five numbers by one of 2 rule sets; no prompt says which"
    rule_sets = 2


TASK = RuleChoice2
