"""What tasks of published questions share: one reply, thinking apart, rows read once."""

import time

import pytest
from opcd_bench.tasks.gsm8k import Gsm8k
from small_data import write_gsm8k

from opcd_bench.envs.question import majority_floor, tagged_answer
from opcd_bench.envs.task import Grade, describe_task


@pytest.fixture
def folder(tmp_path):
    write_gsm8k(tmp_path)
    return tmp_path


def test_an_episode_takes_one_reply_and_grades_what_is_said_in_it(folder):
    task = Gsm8k(str(folder))
    example = task.examples("test")[0]
    episode = task.open(example, seed=3)
    assert episode.grade() == Grade(0.0, None, "no reply was given")
    turn = episode.step(f"<think>Answer: 1</think>Answer: {example.reference}")
    assert turn.done and turn.messages == tuple(episode.messages)
    assert episode.grade().score == 1.0
    assert episode.feedback() == ""
    thought = task.open(example, seed=3)
    thought.step(f"<think>Answer: {example.reference}")
    assert thought.grade().score is None


def test_nothing_is_read_before_examples_are_asked_for(tmp_path):
    task = Gsm8k(str(tmp_path / "nowhere"))
    assert task.context().placement == "user" and task.max_turns == 1


def test_what_a_task_is_known_by_follows_the_rows_and_not_the_folder(folder, tmp_path):
    other = tmp_path / "elsewhere"
    write_gsm8k(other)
    here, there = describe_task(Gsm8k(str(folder))), describe_task(Gsm8k(str(other)))
    assert here == there and len(here["options"]["data"]) == 10
    changed = tmp_path / "changed"
    write_gsm8k(changed)
    file = changed / "gsm8k" / "train.jsonl"
    file.write_text(file.read_text().replace("#### 0", "#### 1", 1))
    assert describe_task(Gsm8k(str(changed))) != here


def test_rows_are_read_once_for_all_instances(folder):
    assert Gsm8k(str(folder)).examples("dev") is Gsm8k(str(folder)).examples("dev")


def test_the_majority_floor_is_the_most_frequent_answer_s_share():
    floor = majority_floor(["b", "a", "b", "a", "c"])
    assert (floor.value, floor.how) == (0.4, "always a, the most frequent here")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<answer>B</answer>", "B"),
        ("<answer>A</answer> no: <ANSWER>\n yes. \n</ANSWER>", "yes."),
        ("<answer></answer>", ""),
        ("<answer>B", None),
        ("B", None),
        ("<answer>A, no: <answer>B</answer>", "B"),
        ("<answer>B</answer> or <answer>C", "B"),
        ("B</answer> <answer>C</answer></answer>", "C"),
        ("<answer>（Ｂ）</answer>", "(B)"),
    ],
)
def test_the_last_answer_tags_are_read(reply, answer):
    assert tagged_answer(reply) == answer


@pytest.mark.parametrize("piece", ["<answer>", "</answer>", "<answer></answer>", "<answer"])
def test_tags_are_read_in_one_pass(piece):
    begin = time.process_time()
    tagged_answer(piece * (140_000 // len(piece)))
    assert time.process_time() - begin < 2
