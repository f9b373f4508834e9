"""Rule choice with a context of whose twelve lines one is false (8 %).

Responses are graded by the true rules, as those of ``rule_choice``.
"""

from opcd_bench.envs.rule_pools import FalseRules


class RuleChoiceFalse1(FalseRules):
    """Twelve rules in the system message, one line of them false."""

    name = "rule_choice_false_1"
    version = 1
    summary = "pick one of five numbers; of the twelve rules in the context one is false"
    false = 1


TASK = RuleChoiceFalse1
