"""Rule choice over 16 rule sets: nothing in a prompt says which one applies.

A student without context can learn no more than the mean over all of them.
"""

from opcd_bench.envs.rule_pools import RulePool


class RuleChoice16(RulePool):
    """16 rule sets, each in the system message of its own examples."""

    name = "rule_choice_16"
    version = 1
    summary = "pick one of five numbers by one of 16 rule sets; no prompt says which"
    rule_sets = 16


TASK = RuleChoice16
