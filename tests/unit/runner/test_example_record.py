"""What a suite stores of its examples: floors of those that are scored, and their clusters."""

from collections import Counter

import pytest

from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import Example
from opcd_bench.runner import registry
from opcd_bench.runner.example_record import record
from opcd_bench.store.suite_dir import CLUSTERS


def suite(*tasks, **settings):
    return Suite(name="mine", methods=["opcd"], tasks=[*tasks], model="micro", **settings)


def named(lines):
    """The clusters that some lines of `CLUSTERS` name."""
    return {line.split(" ", 1)[1] for line in lines}


def test_floors_are_those_of_the_examples_that_are_scored():
    """Of 96 of the 144 questions the best answer by relation is right in 40.6 %, not in 33.3."""
    task = registry.task("handbook")
    asked = task.examples("test")[:96]
    right = Counter((example.content["kinds"][0], example.reference) for example in asked)
    best = {kind: max(n for (of, _), n in right.items() if of == kind) for kind, _ in right}
    found = record({"handbook": task}, suite("handbook", test_items=96))
    stored = found["floors"]["handbook"]
    assert stored["majority answer by relation"] == pytest.approx(sum(best.values()) / 96)
    assert stored["majority answer by relation"] == pytest.approx(0.40625)
    assert stored["best possible"] == 1.0
    whole = record({"handbook": task}, suite("handbook", test_items=144))
    assert whole["floors"]["handbook"]["majority answer by relation"] == pytest.approx(1 / 3)


def test_floors_of_further_test_sets_are_those_of_the_examples_that_are_scored():
    """One value a relation is right in 36.7 % of all contradicted questions, in 47.9 of 48."""
    tasks = {"handbook": registry.task("handbook")}
    for items, share in ((48, 23 / 48), (None, 44 / 120)):
        stored = record(tasks, suite("handbook", probe_items=items))["floors"]
        found = stored["handbook.contradicted"]["majority answer by relation"]
        assert found == pytest.approx(share)
        assert stored["handbook.unknown"] == {"says nothing": 1.0}


def test_questions_of_one_fact_are_one_cluster_on_every_set_in_the_order_of_scoring():
    task = registry.task("handbook")
    settings = suite("handbook", test_items=96, dev_items=24, probe_items=20)
    found = record({"handbook": task}, settings)[CLUSTERS]
    test = found["handbook"]["test"]
    assert [line.split(" ", 1)[0] for line in test] == [
        one.id for one in task.examples("test")[:96]
    ]
    assert named(test) == {f"fact {i}" for i in range(12)}
    assert len(found["handbook"]["dev"]) == 24
    assert len(found["handbook.reversed"]["probe"]) == 20
    assert named(found["handbook.two_facts"]["probe"]) <= named(test)


def test_a_retention_task_of_ours_has_its_clusters_too():
    tasks = {"rule_math": registry.task("rule_math")}
    settings = suite("rule_math", retention=["handbook"], retention_items=50)
    found = record(tasks, settings)[CLUSTERS]
    assert list(found) == ["handbook"]
    assert len(found["handbook"]["retention"]) == 50
    assert named(found["handbook"]["retention"]) == {f"fact {i}" for i in range(12)}


@pytest.mark.parametrize("name", ["rule_math", "rule_choice", "rule_choice_2"])
def test_nothing_is_said_where_no_example_has_a_cluster(name):
    """The rules of the built-in worlds are the same for all arms by design, and stand for none."""
    assert CLUSTERS not in record({name: registry.task(name)}, suite(name))


def test_a_cluster_is_no_part_of_what_an_example_is():
    assert Example({"q": "a"}).id == Example({"q": "a"}, cluster="fact 1").id
