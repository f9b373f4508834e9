"""Rule choice with a context of whose twelve lines six are false (50 %).

Responses are graded by the true rules, as those of ``rule_choice``.
"""

from opcd_bench.envs.rule_pools import FalseRules


class RuleChoiceFalse6(FalseRules):
    """Twelve rules in the system message, six lines of them false."""

    name = "rule_choice_false_6"
    version = 1
    summary = "pick one of five numbers; of the twelve rules in the context six are false"
    false = 6


TASK = RuleChoiceFalse6
