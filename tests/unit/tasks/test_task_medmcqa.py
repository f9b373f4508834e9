"""MedMCQA as a task: four options, a letter in answer tags."""

import time

import pytest
from opcd_bench.tasks.medmcqa import MedMcqa
from small_data import medmcqa_row, write_jsonl, write_medmcqa, write_parquet

from opcd_bench.envs.task import SPLITS, assert_disjoint
from opcd_bench.errors import DataError


@pytest.fixture
def task(tmp_path):
    write_medmcqa(tmp_path)
    return MedMcqa(str(tmp_path))


def about(task, number, split="test"):
    question = f"Which nerve has the number {number}?"
    return next(one for one in task.examples(split) if one.content["question"] == question)


def test_test_is_the_published_validation_and_dev_is_carved_from_train(task):
    assert_disjoint(task)
    assert [len(task.examples(split)) for split in SPLITS] == [20, 60, 30]
    assert about(task, 95).reference == "D"
    assert about(task, 95).hint == "It is the nerve at place 95."


def test_the_prompt_lists_the_options_and_the_context_is_a_system_message(task):
    example = about(task, 96)
    messages = task.open(example, 0).messages
    assert [message["role"] for message in messages] == ["user"]
    assert messages[0]["content"].startswith(
        "Which nerve has the number 96?\n\n"
        "A. Nervus 96\nB. Nervus 97\nC. Nervus 98\nD. Nervus 99\n\n"
    )
    assert messages[0]["content"].endswith("<answer>LETTER</answer>")
    told = task.context().tell(messages)
    assert [message["role"] for message in told] == ["system", "user"]
    assert told[1] == messages[0] and "<answer>" not in told[0]["content"]


@pytest.mark.parametrize(
    ("said", "score", "answer"),
    [
        ("B", 1.0, "B"),
        ("b", 1.0, "B"),
        (" (B) ", 1.0, "B"),
        ("B.", 1.0, "B"),
        ("**B**", 1.0, "B"),
        ("B. Nervus 98", 1.0, "B"),
        ("B) A nerve", 1.0, "B"),
        ("Ｂ", 1.0, "B"),
        ("（B）", 1.0, "B"),
        ("D, no: <answer>B", 1.0, "B"),
        ("C", 0.0, "C"),
        ("B (Nervus 98)", 1.0, "B"),
        ("B - Nervus 98", 1.0, "B"),
        ("B \u2013 Nervus 98", 1.0, "B"),
        ("[B] Nervus 98", 1.0, "B"),
        ("**B**. Nervus 98", 1.0, "B"),
        ("**B** (Nervus 98)", 1.0, "B"),
        ("B\nNervus 98", 1.0, "B"),
        ("Option B", 1.0, "B"),
        ("option (b)", 1.0, "B"),
        ("Answer: B", 1.0, "B"),
        ("The correct answer is B.", 1.0, "B"),
        (r"\boxed{B}", 1.0, "B"),
        (r"$\boxed{\text{B}}$", 1.0, "B"),
        (r"\boxed{B. Nervus 98}", 1.0, "B"),
        ("B. B. cereus lives there", 1.0, "B"),
        ("B. Vitamin C.", 1.0, "B"),
        ("B (a vitamin A)", 1.0, "B"),
        ("B: right", 1.0, "B"),
        # two options are none
        ("A: wrong, B: right", None, "A: wrong, B: right"),
        ("A. wrong\nB. right", None, "A. wrong\nB. right"),
        ("A) or B)", None, "A) or B)"),
        ("A (or B)", None, "A (or B)"),
        ("A\nB", None, "A\nB"),
        ("(A) (B)", None, "(A) (B)"),
        ("A - B", None, "A - B"),
        ("Option A: no; option B: yes", None, "Option A: no; option B: yes"),
        ("B-cell lymphoma", None, "B-cell lymphoma"),
        ("LETTER", None, "LETTER"),
        ("A patient with B", None, "A patient with B"),
        ("A and B", None, "A and B"),
        ("E", None, "E"),
        ("", None, ""),
    ],
)
def test_the_letter_in_the_last_answer_tags_counts(task, said, score, answer):
    episode = task.open(about(task, 97), 0)
    episode.step(f"<answer>D</answer>, or rather <answer>{said}</answer>.")
    grade = episode.grade()
    assert (grade.score, grade.answer) == (score, answer)


def test_letters_in_the_option_s_own_words_name_no_other_option(tmp_path):
    write_medmcqa(tmp_path)
    row = medmcqa_row(90) | {"opa": "Both A. and B.", "opb": "C. difficile", "cop": 1}
    write_jsonl(tmp_path / "medmcqa" / "validation.json", [row, medmcqa_row(91), medmcqa_row(92)])
    task = MedMcqa(str(tmp_path))
    for said, score in [("B. C. difficile", 1.0), ("A. Both A. and B.", 0.0), ("B. D: no", None)]:
        episode = task.open(about(task, 90), 0)
        episode.step(f"<answer>{said}</answer>")
        assert episode.grade().score == score
    assert episode.grade().why == "B and D in the answer tags"


def test_no_reply_takes_long_to_grade(task):
    begin = time.process_time()
    for piece in ("B ", "A: ", "B (", "option ", "- ", "\n", "** ", "answer: ", "{", "**B** "):
        for said in (f"{piece * 20_000}!", f"_ {piece * 20_000}!", f"B. {piece * 20_000}!"):
            episode = task.open(about(task, 97), 0)
            episode.step(f"<answer>{said}</answer>")
            episode.grade()
    assert time.process_time() - begin < 4


def test_a_reply_without_tags_cannot_be_read(task):
    for reply in ("The answer is B.", "<think><answer>B</answer></think> B", "Answer: B"):
        episode = task.open(about(task, 97), 0)
        episode.step(reply)
        assert (episode.grade().score, episode.grade().why) == (None, "no <answer> tags")


def test_places_that_count_from_one_are_told_from_those_that_count_from_nought(tmp_path):
    for first, folder in ((0, tmp_path / "hub"), (1, tmp_path / "published")):
        rows = [medmcqa_row(n, first) for n in range(40)]
        write_parquet(
            folder / "medmcqa" / "train.parquet", [row | {"topic_name": "t"} for row in rows]
        )
        write_jsonl(folder / "medmcqa" / "dev.json", (medmcqa_row(n, first) for n in range(40, 50)))
    hub, published = (MedMcqa(str(tmp_path / name)) for name in ("hub", "published"))
    for split in SPLITS:
        assert hub.examples(split) == published.examples(split)
    assert hub.options() == published.options()


@pytest.mark.parametrize("labels", [(1, 2, 3), (-1, -1, -1), (0, 4, 1), ("a", "b", "c")])
def test_places_that_could_be_either_are_refused(tmp_path, labels):
    write_medmcqa(tmp_path)
    rows = [medmcqa_row(n) | {"cop": label} for n, label in enumerate(labels)]
    write_jsonl(tmp_path / "medmcqa" / "validation.json", rows)
    with pytest.raises(DataError, match="cop is the place of the right option"):
        MedMcqa(str(tmp_path)).examples("test")


def test_a_question_whose_options_are_in_another_order_is_the_same_question(tmp_path):
    write_medmcqa(tmp_path)
    turned = medmcqa_row(5) | {"opa": "Nervus 8", "opd": "Nervus 5", "cop": 0}
    write_jsonl(
        tmp_path / "medmcqa" / "validation.json", [turned, medmcqa_row(90), medmcqa_row(91)]
    )
    task = MedMcqa(str(tmp_path))
    questions = [one.content["question"] for split in SPLITS for one in task.examples(split)]
    assert len(questions) == len(set(questions)) == 82
    assert about(task, 5).reference == "A"


def test_floors_are_the_most_frequent_letter_and_a_guess(task):
    majority, uniform = task.floors(task.examples("test"))
    assert (majority.value, uniform.value) == (8 / 30, 0.25)
    assert majority.how.startswith("always ")
