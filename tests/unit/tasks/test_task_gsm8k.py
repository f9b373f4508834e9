"""GSM8K as a task."""

import pytest
from opcd_bench.tasks.gsm8k import Gsm8k
from small_data import SHARED, gsm8k_row, write_gsm8k, write_jsonl

from opcd_bench.envs.task import SPLITS, assert_disjoint
from opcd_bench.errors import DataError


@pytest.fixture
def task(tmp_path):
    write_gsm8k(tmp_path)
    return Gsm8k(str(tmp_path))


def graded(task, reference, reply):
    example = next(one for one in task.examples("test") if one.reference == reference)
    episode = task.open(example, 0)
    episode.step(reply)
    return episode.grade()


def test_a_row_gives_question_answer_and_worked_solution(task):
    example = next(one for one in task.examples("test") if one.reference == "3720")
    assert example.content == {"question": gsm8k_row(60)["question"]}
    assert example.hint == "She has 60*62=3720 pears."
    (message,) = task.open(example, 0).messages
    assert message["content"].startswith(
        "Ada has 60 crates of 62 pears. How many pears has she?\n\n"
    )
    assert "`Answer:`" in message["content"] and "3720" not in message["content"]


def test_the_context_goes_before_the_problem(task):
    example = task.examples("test")[0]
    (told,) = task.context().tell(task.open(example, 0).messages)
    head, _, problem = told["content"].partition("the problem that follows.\n\n")
    assert head.count("- EXPERIENCE ITEM:") == 7
    assert problem.startswith(example.content["question"])


@pytest.mark.parametrize(
    ("reply", "score", "answer"),
    [
        ("60 * 62 = 3720\nAnswer: 3720", 1.0, "3720"),
        ("Answer: $3,720.00", 1.0, "$3,720.00"),
        ("Answer: 3720 pears.", 1.0, "3720 pears."),
        (r"so \boxed{3720}", 1.0, "3720"),
        ("Answer: 60 * 62 = 3720", 1.0, "60 * 62 = 3720"),
        ("Answer: 3721", 0.0, "3721"),
        ("Answer: 60 crates", 0.0, "60 crates"),
        ("Answer: 3{,}720", 1.0, "3{,}720"),
        ("**Answer**: 3\u202f720", 1.0, "3\u202f720"),
        ("Answer：3720", 1.0, "3720"),
        (r"\boxed{3720} and \boxed{3", 1.0, "3720"),
        ("**Answer:**\n3720", 1.0, "3720"),
        ("**Final Answer:**\n\n$$\n\\boxed{3720}\n$$", 1.0, r"\boxed{3720}"),
        ("Answer:\n\\[\n\\boxed{3720}\n\\]", 1.0, r"\boxed{3720}"),
        ("Answer:\n```\n3720\n```", 1.0, "3720"),
        ("so \\boxed{3720}\n**Answer:**", 1.0, "3720"),
        ("Answer: \u22123720", 0.0, "\u22123720"),
        ("Answer: - 3720", 0.0, "- 3720"),
        ("Answer: 3720e2", 0.0, "3720e2"),
        ("Answer: Total \u2013 3720", 1.0, "Total \u2013 3720"),
        ("Answer: 3720 = 60 x 62", 1.0, "3720 = 60 x 62"),
        ("Answer: 3.72 thousand", 1.0, "3.72 thousand"),
        ("Answer: 3720 or 3721", None, "3720 or 3721"),
        ("Answer: not 3720", None, "not 3720"),
        ("Answer: " + "9" * 5000, None, "9" * 5000),
        ("Answer: many", None, "many"),
        ("3720", None, None),
    ],
)
def test_an_answer_is_right_if_its_number_is(task, reply, score, answer):
    grade = graded(task, "3720", reply)
    assert (grade.score, grade.answer) == (score, answer)


def test_reasons_say_what_is_wrong(task):
    assert graded(task, "3720", "Answer: 5").why == "it is 3720"
    assert graded(task, "3720", "3720").why == "no 'Answer:' line and no box"
    assert graded(task, "3720", "Answer: many").why == "no number in 'many'"
    assert graded(task, "3720", "Answer: 5 or 6").why == "not one number alone in '5 or 6'"


def test_a_repeated_question_is_in_one_split(tmp_path):
    write_jsonl(tmp_path / "gsm8k" / "train.jsonl", [gsm8k_row(n) for n in range(30)])
    shouted = gsm8k_row(3) | {"question": gsm8k_row(3)["question"].upper()}
    write_jsonl(tmp_path / "gsm8k" / "test.jsonl", [gsm8k_row(2), shouted, gsm8k_row(40)])
    task = Gsm8k(str(tmp_path))
    assert_disjoint(task)
    assert sorted(one.reference for one in task.examples("test")) == ["15", "1680", "8"]
    left = {one.reference for split in ("train", "dev") for one in task.examples(split)}
    assert len(left) == 28 and not left & {"15", "8"}


@pytest.mark.parametrize("answer", ["72", "so many.\n#### ", "#### many"])
def test_an_answer_without_its_number_is_refused(tmp_path, answer):
    write_jsonl(
        tmp_path / "gsm8k" / "train.jsonl",
        [{"question": f"{n}?", "answer": "#### 1"} for n in range(9)],
    )
    write_jsonl(tmp_path / "gsm8k" / "test.jsonl", [{"question": "Who?", "answer": answer}])
    with pytest.raises(DataError, match="an answer ends in '#### ' and a number"):
        Gsm8k(str(tmp_path)).examples("test")


def test_a_row_of_another_schema_is_refused(tmp_path):
    write_jsonl(tmp_path / "gsm8k" / "train.jsonl", [{"problem": "1?", "answer": "#### 1"}])
    write_jsonl(tmp_path / "gsm8k" / "test.jsonl", [{"question": "2?", "answer": "#### 1"}])
    with pytest.raises(DataError, match="no column 'question'; it has problem, answer"):
        Gsm8k(str(tmp_path)).examples("test")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the samples of {SHARED} are not here")
def test_the_published_set_is_read_whole():
    task = Gsm8k(str(SHARED))
    assert [len(task.examples(split)) for split in SPLITS] == [6973, 500, 1319]
    assert_disjoint(task)
    numbers = [one.reference for split in SPLITS for one in task.examples(split)]
    assert all(number and "," not in number for number in numbers)
    assert 0.02 < task.floors(task.examples("test"))[0].value < 0.04
    first = task.examples("test")[0]
    assert (first.id, task.options()) == ("b06e9a4d04601a02", {"data": "06a004f45a"})
