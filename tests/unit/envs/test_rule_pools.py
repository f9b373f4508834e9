"""Rule choices over several rule sets: who is told what, and what the prompt gives away."""

from collections import Counter
from statistics import fmean

import pytest
from opcd_bench.tasks import (
    rule_choice,
    rule_choice_4,
    rule_choice_256,
    rule_choice_false_6,
    rule_choice_named_16,
)

from opcd_bench.envs.rule_pools import rules_of, told_rules
from opcd_bench.envs.task import Contexts
from opcd_bench.envs.worlds import choice as world
from opcd_bench.envs.worlds import operators

TASKS = (rule_choice_4.TASK, rule_choice_256.TASK, rule_choice_named_16.TASK)


@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.name)
def test_an_example_is_graded_by_the_rules_that_its_teacher_is_told_with_any_seed(kind):
    task = kind()
    for example in task.examples("dev")[:60]:
        told = {task.contexts().of(task.name, seed, example.id) for seed in range(3)}
        (context,) = told
        choice = world.choice_of(example.content)
        lines = dict(line.split(" ", 1) for line in context.text.splitlines()[1:])
        pick = lines[f"#{choice.name}"]
        assert world.answer(choice, {choice.name: pick}) == example.reference
        episode = task.open(example, 0)
        episode.step(str(example.reference))
        assert episode.grade().score == 1.0


def test_a_named_prompt_says_which_school_its_context_is_of_and_no_other_does():
    task = rule_choice_named_16.TASK()
    for example in task.examples("test")[:60]:
        (message,) = task.open(example, 0).messages
        context = task.contexts().of(task.name, 0, example.id)
        school = message["content"].split(" : ")[0].removeprefix("In the school of ")
        assert context.text.startswith(f"Rules of the school of {school}\n")
        assert task.contexts().candidates(task.name, 0, example.id) == (context,)
    plain = rule_choice_4.TASK()
    prompts = [plain.open(e, 0).messages[0]["content"] for e in plain.examples("test")]
    assert not any("school" in prompt for prompt in prompts)
    assert len(plain.contexts().candidates(plain.name, 0, plain.examples("dev")[0].id)) == 4


@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.name)
def test_every_rule_set_has_its_share_of_the_examples(kind):
    task = kind()
    contexts = task.contexts()
    drawn = Counter(contexts.of(task.name, 0, e.id).hash for e in task.examples("train"))
    assert len(drawn) == task.rule_sets
    assert min(drawn.values()) > 0.2 * 2000 / task.rule_sets - 1


def test_the_best_guess_without_the_rule_set_falls_towards_chance():
    """What a student that knows all rule sets, and not which applies, gets right at most."""

    def best(rule_sets):
        found = []
        for example in rule_choice_4.TASK().examples("dev"):
            choice = world.choice_of(example.content)
            answers = [world.answer(choice, rules_of(n)) for n in range(rule_sets)]
            found.append(max(Counter(answers).values()) / rule_sets)
        return fmean(found)

    falls = [best(n) for n in (1, 2, 4, 16, 256)]
    assert falls[0] == 1.0 and falls == sorted(falls, reverse=True)
    assert falls[-1] < 0.4 < falls[2]


def test_contexts_drawn_by_example_are_no_others_than_those_drawn_by_run_but_in_their_draw():
    pool = rule_choice_4.TASK().contexts().pool
    by_run, by_example = Contexts(pool), Contexts(pool, by_example=True)
    assert by_run.hash != by_example.hash
    assert len({by_run.of("t", seed, "e") for seed in range(40)}) > 1
    assert len({by_example.of("t", seed, "e") for seed in range(40)}) == 1
    assert len(operators.SCHOOLS) >= 16


def test_a_false_context_is_wrong_on_as_many_names_as_it_says_and_graded_by_the_truth():
    def wrong(false):
        return {n for n, pick in told_rules(false).items() if rules_of(0)[n] != pick}

    assert [len(wrong(false)) for false in (0, 1, 3, 6)] == [0, 1, 3, 6]
    assert wrong(1) < wrong(3) < wrong(6)
    task = rule_choice_false_6.TASK()
    example = task.examples("dev")[0]
    choice = world.choice_of(example.content)
    assert example.reference == world.answer(choice, rules_of(0))
    (context,) = task.contexts().pool
    assert sum(line in context.text for line in world.pick_lines(rules_of(0))) == 6
    assert context.false_share == 0.5
    (true,) = rule_choice.TASK().contexts().pool
    assert true.false_share == 0.0
