"""Rule choice over 4 rule sets: nothing in a prompt says which one applies.

A student without context can learn no more than the mean over all of them.
"""

from opcd_bench.envs.rule_pools import RulePool


class RuleChoice4(RulePool):
    """4 rule sets, each in the system message of its own examples."""

    name = "rule_choice_4"
    version = 1
    summary = "pick one of five numbers by one of 4 rule sets; no prompt says which"
    rule_sets = 4


TASK = RuleChoice4
