"""GSM8K: grade-school word problems, graded by the number of the answer.

The Hub's ``openai/gsm8k`` (train 7,473 and test 1,319 rows of ``question`` and ``answer``, whose
last line is ``#### 72``) or ``<data_dir>/gsm8k/{train,test}``. Dev is carved from train. Worked
solutions are the examples' hints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from opcd_bench.tasks._math_question import question
from opcd_bench.tasks._prompts import shipped

from opcd_bench import Context, DataError, DataTask, Example, Grade, Split
from opcd_bench.envs import data_sets
from opcd_bench.envs.data_files import Row
from opcd_bench.envs.data_sets import DataPart, HubSplit, value_of
from opcd_bench.envs.data_splits import divided
from opcd_bench.envs.math_answers import number_of, read_answer, undecided

SIZES: Mapping[Split, int | None] = {"train": None, "dev": 500, "test": None}
PARTS = (
    DataPart("train", ("train",), HubSplit("openai/gsm8k", "train", "main")),
    DataPart("test", ("test",), HubSplit("openai/gsm8k", "test", "main")),
)


class Gsm8k(DataTask):
    """One reply a problem; right if the number of its answer is."""

    name = "gsm8k"
    version = 3
    summary = "grade-school word problems (openai/gsm8k); the context holds lessons on solving them"

    def context(self) -> Context:
        """Lessons written by hand, at the head of the problem."""
        return Context(shipped("word_problem_experience"), "user")

    @classmethod
    def load(cls, data_dir: str | None) -> Mapping[Split, Sequence[Example]]:
        """Problems with the number that is the answer."""
        rows = divided(
            cls.name,
            data_sets.pools(cls.name, PARTS, data_dir=data_dir),
            text=lambda row: str(value_of(row, "question", cls.name)),
            sizes=SIZES,
            answer=lambda row: _answered(row)[1],
        )
        return {split: [_example(row) for row in of] for split, of in rows.items()}

    def question(self, example: Example) -> str:
        """The problem, and the form of its answer."""
        return question(example.content["question"])

    def graded(self, example: Example, reply: str) -> Grade:
        """The last ``Answer:`` line or box is compared as a number: ``$1,080.00`` is 1080."""
        read = read_answer(reply)
        number = None if read is None else number_of(read)
        if read is None or number is None:
            why = "no 'Answer:' line and no box"
            if read is not None:
                kind = "not one number alone" if undecided(read) else "no number"
                why = f"{kind} in {read[:80]!r}"
            return Grade(None, read, why)
        right = number == number_of(str(example.reference))
        return Grade(float(right), read, f"it is {example.reference}")


def _answered(row: Row) -> tuple[str, str]:
    """A row's worked solution, and the number behind it."""
    worked, marked, answer = str(value_of(row, "answer", "gsm8k")).rpartition("####")
    number = answer.strip().replace(",", "")
    if not marked or number_of(number) is None:
        raise DataError(
            f"{data_sets.where(row, 'gsm8k')}: an answer ends in '#### ' and a number, not "
            f"{answer[-60:]!r}"
        )
    return worked, number


def _example(row: Row) -> Example:
    worked, number = _answered(row)
    hint = re.sub(r"<<.*?>>", "", worked).strip()
    return Example({"question": str(row["question"]).strip()}, number, hint or None)


TASK = Gsm8k
