"""Handbooks: what is told, what is asked, and what a reply is worth."""

import pytest
from opcd_bench.tasks.handbook import Handbook12

from opcd_bench.envs.task import SPLITS
from opcd_bench.envs.worlds import handbook as world


def graded(task, example, reply):
    episode = task.open(example, 0)
    episode.step(reply)
    return episode.grade()


def of_relation(task, relation):
    return next(e for e in task.examples("test") if e.content["kinds"] == [relation])


def probe(task, name):
    return next(one for one in task.probes() if one.name == name)


@pytest.mark.parametrize("count", [6, 12, 48, 200])
def test_no_two_facts_share_a_value_or_say_the_same_of_a_thing(count):
    facts = world.facts(count, 1)
    assert len({(fact.relation, fact.value) for fact in facts}) == count
    assert len({(fact.relation, fact.thing) for fact in facts}) == count


@pytest.mark.parametrize("count", [5, 201])
def test_a_handbook_has_6_to_200_facts(count):
    with pytest.raises(ValueError, match="6 to 200"):
        world.facts(count, 1)


def test_no_wording_is_in_two_splits():
    for relation in world.RELATIONS:
        every = [wording for split in SPLITS for wording in relation.asked[split]]
        assert len(every) == len({*every}) == 13


@pytest.mark.parametrize("relation", ["place", "owner", "code", "sign"])
def test_the_value_counts_in_any_case_as_a_whole_word_and_alone(relation):
    task = Handbook12()
    example = of_relation(task, relation)
    right = str(example.reference)
    other = next(v for v in world.BY_NAME[relation].values if v != right)
    assert graded(task, example, f"It's **{right.upper()}**!").score == 1.0
    assert graded(task, example, f"{right}'s").score == 1.0
    assert graded(task, example, f"{right} or {other}").score == 0.0
    assert graded(task, example, other).score == 0.0
    assert graded(task, example, f"x{right}y").score is None
    assert graded(task, example, "I do not know.").score is None


def test_both_values_of_two_facts_are_needed():
    task = Handbook12()
    example = probe(task, "two_facts").examples[0]
    one, two = str(example.reference).split(" and ")
    assert graded(task, example, f"{two}; {one}").score == 1.0
    assert graded(task, example, one).score == 0.0


def test_of_unknown_things_a_value_of_the_handbook_is_made_up():
    task = Handbook12()
    example = next(e for e in probe(task, "unknown").examples if e.content["kinds"] == ["code"])
    silent = graded(task, example, "I'm sorry, I don't know.")
    assert (silent.score, silent.also["says_unknown"]) == (1.0, 1.0)
    value = next(f.value for f in world.facts(12, 1) if f.relation == "code")
    assert graded(task, example, f"It is {value}.").score == 0.0


def test_a_contradicting_handbook_has_other_values_and_they_are_what_counts():
    task = Handbook12()
    against = probe(task, "contradicted")
    example = next(e for e in against.examples if e.content["kinds"] == ["code"])
    own = world.facts(12, 1)[example.content["facts"][0]].value
    assert str(example.reference) in against.reads.text
    assert graded(task, example, str(example.reference)).score == 1.0
    wrong = graded(task, example, own)
    assert (wrong.score, wrong.also["own_value"]) == (0.0, 1.0)


def test_the_floor_knows_of_constant_answers_by_relation():
    test = Handbook12().examples("test")
    floors = {floor.name: floor.value for floor in Handbook12().floors(test)}
    assert floors["majority answer"] == pytest.approx(1 / 12)
    assert floors["majority answer by relation"] == pytest.approx(1 / 3)
