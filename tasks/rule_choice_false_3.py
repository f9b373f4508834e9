"""Rule choice with a context of whose twelve lines three are false (25 %).

Responses are graded by the true rules, as those of ``rule_choice``.
"""

from opcd_bench.envs.rule_pools import FalseRules


class RuleChoiceFalse3(FalseRules):
    """Twelve rules in the system message, three lines of them false."""

    name = "rule_choice_false_3"
    version = 1
    summary = "pick one of five numbers; of the twelve rules in the context three are false"
    false = 3


TASK = RuleChoiceFalse3
