"""Which questions two sets share: word for word, and thirteen words in a row."""

from __future__ import annotations

from opcd_bench.envs.overlap import Overlap, between_splits, overlap, texts_of
from opcd_bench.envs.task import Example

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def texts(*said: str):
    return [texts_of({"question": one}) for one in said]


def test_case_white_space_punctuation_and_width_make_no_other_question():
    asked = texts("How many  APPLES are\nleft?", "Something else is asked here.")
    others = texts("how many apples are ｌｅｆｔ")
    assert overlap(asked, others) == Overlap(same=1, near=1, of=2)


def test_thirteen_words_in_a_row_are_near_and_twelve_are_not():
    words = LONG.split()
    thirteen = "another begin " + " ".join(words[1:14]) + " and end"
    twelve = "another begin " + " ".join(words[2:14]) + " and end"
    assert overlap(texts(LONG), texts(thirteen)) == Overlap(0, 1, 1)
    assert overlap(texts(LONG), texts(twelve)) == Overlap(0, 0, 1)


def test_answers_options_and_boards_are_no_questions():
    content = {"answer": "yes it is", "options": [LONG], "board": "#####\n#.$.#", "n": 3}
    assert texts_of(content) == ()
    assert overlap([texts_of(content)], texts(LONG)) == Overlap(0, 0, 0)


def test_a_test_question_that_train_asks_too_is_counted():
    class Asked:
        def examples(self, split):
            said = {"train": [LONG, f"{LONG} and more"], "test": [LONG, "what is it that is new"]}
            return [Example({"question": one, "split": split}) for one in said[split]]

    assert between_splits(Asked()) == Overlap(same=1, near=1, of=2)
