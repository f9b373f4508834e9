"""Retention tasks that ask what a task trains or tests on, under another name."""

from __future__ import annotations

import json
import shutil

import pytest
from toy import Toy

from opcd_bench.config.suite import make_suite
from opcd_bench.envs.task import SPLITS, Example
from opcd_bench.errors import ConfigError
from opcd_bench.runner import registry, shared_questions
from opcd_bench.runner.rounds import any_suite


def question(i: int) -> str:
    return f"Person number {i} has {i} apples and gives a few to friends: how many are left then?"


def rows(*numbers: int) -> str:
    return "\n".join(
        json.dumps({"question": question(i), "answer": f"So.\n#### {i}"}) for i in numbers
    )


def laid(folder, cot: list[int]) -> str:
    files = {"gsm8k/train": range(60), "gsm8k/test": range(100, 120), "gsm8k_cot/test": cot}
    for name, numbers in files.items():
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(rows(*numbers))
    return str(folder)


def suite(data_dir: str, retention: str = "gsm8k_cot"):
    words = {"methods": "opcd", "tasks": "gsm8k", "retention": retention, "data_dir": data_dir}
    return make_suite(words, "a test")


@pytest.mark.parametrize("cot", [range(100, 120), [*range(200, 240), *range(6)]])
def test_the_same_questions_under_another_name_are_refused_as_the_suite_is_planned(tmp_path, cot):
    made = suite(laid(tmp_path, list(cot)))
    with pytest.raises(ConfigError, match=r"'gsm8k_cot' asks \d+ of its \d+ questions word for"):
        any_suite.planned(made)


def test_a_few_shared_questions_are_warned_of_with_their_splits(tmp_path):
    made = suite(laid(tmp_path, [*range(200, 239), 100]))
    any_suite.planned(made)
    tasks = registry.plugins_of(made)[1]
    documents = {"gsm8k_cot": [{"question": question(i)} for i in (*range(200, 239), 100)]}
    (said,) = shared_questions.warnings(tasks, documents)
    assert "asks 1 of its 40 questions word for word as the task 'gsm8k' does (test 1)" in said


class Small(Toy):
    """Ten questions in every split."""

    def examples(self, split):
        first = 10 * SPLITS.index(split)
        return [Example({"question": question(i)}) for i in range(first, first + 10)]


def test_one_question_of_a_small_dev_split_is_warned_of_and_one_of_a_small_test_is_refused():
    def asking(split):
        own = Small().examples(split)[0].content["question"]
        rows = [{"question": own}, *({"question": question(i)} for i in range(100, 139))]
        return shared_questions.warnings({"toy": Small()}, {"gsm8k_cot": rows})

    (said,) = asking("dev")
    assert "asks 1 of its 40 questions word for word as the task 'toy' does (dev 1)" in said
    with pytest.raises(ConfigError, match=r"asks 1 of its 40 .*'toy' does \(test 1\)"):
        asking("test")


def test_a_held_out_loss_on_the_questions_of_a_task_is_refused(tmp_path):
    data = laid(tmp_path, [300])
    shutil.copytree(tmp_path / "gsm8k", tmp_path / "my_problems")
    mine = tmp_path / "my_problems.py"
    mine.write_text(
        "from opcd_bench.tasks.gsm8k import Gsm8k\n\n\nclass Mine(Gsm8k):\n"
        '    name = "my_problems"\n\n\nTASK = Mine\n'
    )
    words = {"methods": "opcd", "retention": "loss_gsm8k", "data_dir": data}
    with pytest.raises(ConfigError, match=r"gsm8k cannot be trained on .*loss_gsm8k from retent"):
        make_suite({**words, "tasks": "gsm8k"}, "a test")
    made = make_suite({**words, "tasks": str(mine)}, "a test")
    with pytest.raises(
        ConfigError, match=r"held-out loss 'loss_gsm8k' asks 20 of its 20 .*'my_problems'.*test 20"
    ):
        any_suite.planned(made)
    any_suite.planned(make_suite({**words, "tasks": "rule_math"}, "a test"))


def test_texts_of_the_hub_are_looked_at_before_a_run_and_not_by_a_plan(tmp_path):
    made = make_suite(
        {"methods": "opcd", "tasks": "rule_math", "retention": "loss_gsm8k",
         "data_dir": str(tmp_path)}, "a test",
    )  # fmt: skip
    any_suite.planned(made)
    laid(tmp_path, [300])
    assert len(shared_questions.measured_documents(made)["loss_gsm8k"]) == 20


def test_a_large_retention_task_that_holds_the_test_split_of_a_small_one_is_refused():
    made = make_suite({"methods": "opcd", "tasks": "handbook", "retention": "handbook_200"}, "it")
    with pytest.raises(ConfigError, match=r"asks 144 of its 2400 .*'handbook' does \(test 144\)"):
        any_suite.planned(made)


def test_other_questions_pass_and_our_own_retention_tasks_are_read_too(tmp_path):
    made = suite(laid(tmp_path, [300, 301]), "gsm8k_cot,told_other")
    any_suite.planned(made)
    assert set(shared_questions.own_documents(made)) == {"told_other"}
