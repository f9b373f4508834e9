"""What is said of a suite before a model is loaded."""

import pytest

from opcd_bench.config.suite import Suite
from opcd_bench.runner import preflight, registry


def warning(model, tasks, retention=()):
    suite = Suite(
        name="mine", methods=["opcd"], tasks=[*tasks], model=model, retention=[*retention]
    )
    return preflight.form_warning(suite, {name: registry.task(name) for name in tasks})


@pytest.mark.parametrize("model", ["micro", "micro-small"])
def test_the_built_in_model_knows_the_form_of_its_tasks(model):
    assert warning(model, ["rule_math"], ["told_other"]) is None


def test_another_model_that_is_not_told_the_form_is_warned_of_by_task():
    said = warning("org/other", ["rule_math", "rule_choice"], ["told_other"])
    assert said.startswith("rule_math, told_other: the prompts do not say")
    assert "'org/other'" in said
    assert warning("org/other", ["handbook", "rule_choice"]) is None
