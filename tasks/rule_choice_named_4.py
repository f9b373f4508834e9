"""Rule choice over 4 schools: each question names the school whose rules apply.

What is told differs from example to example, and the prompt says which it is: it can be learnt.
"""

from opcd_bench.envs.rule_pools import RulePool


class RuleChoiceNamed4(RulePool):
    """4 rule sets, each in the system message of its own examples, and named."""

    name = "rule_choice_named_4"
    version = 1
    summary = "pick one of five numbers by the rules of one of 4 schools, named in the prompt"
    rule_sets = 4
    named = True


TASK = RuleChoiceNamed4
