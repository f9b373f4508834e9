"""DAPO-Math as a task: both schemas, DAPO's score, math-verify's beside it."""

import pytest
from opcd_bench.tasks.dapo_math import DapoMath, answer_of, problem_of
from small_data import SHARED, dapo_row, write_dapo_math, write_jsonl, write_parquet

from opcd_bench.envs.task import SPLITS, assert_disjoint
from opcd_bench.errors import DataError


@pytest.fixture
def task(tmp_path):
    write_dapo_math(tmp_path)
    return DapoMath(str(tmp_path))


def graded(task, reply):
    example = next(one for one in task.examples("test") if len(one.reference) == 4)
    episode = task.open(example, 0)
    episode.step(reply.replace("REFERENCE", example.reference))
    return episode.grade()


def test_the_one_file_of_dapo_math_17k_is_read_once_a_problem_and_without_chinese(task):
    assert_disjoint(task)
    assert [len(task.examples(split)) for split in SPLITS] == [20, 30, 30]
    problems = {one.content["problem"]: one.reference for s in SPLITS for one in task.examples(s)}
    assert problems["Find the sum of 7 and $n^2$ for n = 7."] == "56"
    assert len(problems) == 80


def test_three_files_are_the_three_splits(tmp_path):
    folder = tmp_path / "dapo_math"
    for name, numbers in (("train", range(5)), ("validation", range(4, 7)), ("test", range(6, 9))):
        rows = [dapo_row(f"What is {n} + 1?", f"{n + 1}", "content") for n in numbers]
        write_parquet(folder / f"dapo_{name}.parquet", rows)
    task = DapoMath(str(tmp_path))
    found = {split: sorted(one.reference for one in task.examples(split)) for split in SPLITS}
    assert found == {"train": ["1", "2", "3", "4"], "dev": ["5", "6"], "test": ["7", "8", "9"]}


def test_downloads_of_the_three_repositories_are_found_where_the_message_puts_them(tmp_path):
    for place, number in (("train", 1), ("validation", 2), ("test", 3)):
        file = tmp_path / "dapo_math" / place / "data" / "train-00000-of-00001.parquet"
        write_parquet(file, [dapo_row(f"What is {number}?", str(number), "content")])
    task = DapoMath(str(tmp_path))
    assert [task.examples(split)[0].reference for split in SPLITS] == ["1", "2", "3"]


def test_a_problem_is_unwrapped_from_every_schema():
    problem = "Find $x$.\n\nGive it in lowest terms."
    assert problem_of(dapo_row(problem, "3")) == problem
    assert problem_of(dapo_row(problem, "3", "content")) == problem
    assert problem_of({"prompt": f" {problem} ", "extra_info": None}) == problem
    with_raw = dapo_row("another text", "3") | {"extra_info": {"raw_problem": problem}}
    assert problem_of(with_raw) == problem
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": problem}]
    assert problem_of({"content": turns}) == problem
    one_paragraph = "Solve the following math problem step by step. Add 1 and 2."
    assert problem_of({"prompt": one_paragraph}) == one_paragraph


def test_the_answer_is_the_ground_truth_or_the_answer_column():
    assert answer_of(dapo_row("p", " 34 ") | {"answer": "5"}) == "34"
    assert answer_of({"prompt": "p", "answer": 34}) == "34"
    assert answer_of({"prompt": "p", "answer": "34", "reward_model": None}) == "34"
    with pytest.raises(DataError, match=r"no answer to 'p'"):
        answer_of({"prompt": "p", "answer": " "})
    with pytest.raises(DataError, match="no column 'answer'; it has prompt"):
        answer_of({"prompt": "p"})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "p", "answer": "1"}, "no column 'prompt'; it has question, answer"),
        ({"prompt": [{"from": "user"}], "answer": "1"}, "a list of messages with role and content"),
        ({"prompt": 3, "answer": "1"}, "a problem is a text, or a list"),
    ],
)
def test_a_row_of_another_schema_is_refused(tmp_path, row, said):
    write_jsonl(tmp_path / "dapo_math" / "train.jsonl", [row])
    with pytest.raises(DataError, match=said):
        DapoMath(str(tmp_path)).examples("train")


def test_the_prompt_is_our_own_with_the_context_before_the_problem(task):
    example = task.examples("train")[0]
    (plain,) = task.open(example, 0).messages
    assert plain["content"].startswith(f"{example.content['problem']}\n\nWork it out step by step")
    (told,) = task.context().tell([plain])
    assert told["content"].endswith(plain["content"])
    assert told["content"].count("- EXPERIENCE ITEM:") == 8


@pytest.mark.parametrize(
    ("reply", "score", "same"),
    [
        ("so\nAnswer: REFERENCE", 1.0, 1.0),
        (r"so \boxed{REFERENCE}", 1.0, 1.0),
        ("Answer: $n = REFERENCE$", 1.0, 1.0),
        ("Answer: REFERENCE.0", 0.0, 1.0),
        ("**Answer:** REFERENCE", 0.0, 1.0),
        ("**Answer**: REFERENCE", None, 1.0),
        ("**Answer**: 7", None, 0.0),
        ("**Answer:**\nREFERENCE", 0.0, 1.0),
        ("**Final Answer:**\n\n$$\n\\boxed{REFERENCE}\n$$", 0.0, 1.0),
        ("Answer:\n\\[\n\\boxed{REFERENCE}\n\\]", 0.0, 1.0),
        ("Answer:\n```\nREFERENCE\n```", 0.0, 1.0),
        ("**Answer:**\n7", 0.0, 0.0),
        ("Answer: REFERENCE\n**Answer**: 7", 1.0, 0.0),
        (r"\boxed{REFERENCE} or \boxed{7", 1.0, 1.0),
        ("Answer: " + "9" * 5000, 0.0, 0.0),
        ("Answer: " + "{" * 50 + "REFERENCE" + "}" * 50, 0.0, 0.0),
        ("Answer:" * 20_000, 0.0, 0.0),
        ("Answer: REFERENCE + 1", 0.0, 0.0),
        ("Answer: 7", 0.0, 0.0),
        ("Answer: 7, REFERENCE", 0.0, 0.0),
        ("Answer: not REFERENCE", 0.0, 0.0),
        ("Answer: x = 7 or x = REFERENCE", 1.0, 0.0),
        ("it is REFERENCE", None, 0.0),
        ("<think>Answer: REFERENCE</think> I do not know", None, 0.0),
    ],
)
def test_the_score_is_dapo_s_and_math_verify_s_is_beside_it(task, reply, score, same):
    grade = graded(task, reply)
    assert (grade.score, grade.also) == (score, {"math_verify": same})


def test_reasons_say_what_both_make_of_it(task):
    assert "; math-verify takes them for equal" in graded(task, "Answer: REFERENCE.0").why
    assert "not '7'; math-verify takes them for different too" in graded(task, "Answer: 7").why
    assert graded(task, "seven").why == "no 'Answer:' line and no box"
    below = graded(task, "**Answer:**\nREFERENCE.0").why
    assert "not '**'; math-verify takes '" in below and below.endswith(".0' for equal")
    assert graded(task, "**Answer**: 7").why == (
        "no 'Answer:' line as DAPO reads it, no box; math-verify takes '7' for different too"
    )


def test_the_three_hub_sets_are_asked_for_without_a_folder(monkeypatch):
    import datasets

    asked = {}

    def load(path, config, *, data_files, split, revision):
        asked[path] = (config, data_files, split, revision)
        rows = [dapo_row(f"{path} asks: {n}?", str(n), "content") for n in range(3)]
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    splits = DapoMath.load(None)
    assert asked == {
        f"ytz20/dapo_{name}": (None, None, "train", None)
        for name in ("train", "validation", "test")
    }
    assert [len(of) for of in splits.values()] == [3, 3, 3]
    assert splits["dev"][0].content["problem"].startswith("ytz20/dapo_validation asks: ")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the samples of {SHARED} are not here")
def test_aime_in_dapo_s_schema_is_read(tmp_path):
    folder = tmp_path / "dapo_math"
    folder.mkdir()
    (folder / "train.parquet").symlink_to(SHARED / "aime" / "aime-2024.parquet")
    task = DapoMath(str(tmp_path))
    assert [len(task.examples(split)) for split in SPLITS] == [8, 11, 11]
    everything = [one for split in SPLITS for one in task.examples(split)]
    assert not any("Solve the following" in one.content["problem"] for one in everything)
    assert all(one.reference.isdigit() for one in everything)
