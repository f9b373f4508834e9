r"""DAPO-Math: competition problems whose answers are integers, graded as DAPO grades them.

The Hub's ``ytz20/dapo_train``, ``_validation`` and ``_test`` (arXiv 2602.12275's split of the
English part) or ``<data_dir>/dapo_math/``: the same three, or DAPO-Math-17k itself, of which the
problems without Chinese are kept, once each, and 1,000 go to dev and to test. The wrapping that
both put around a problem is taken off: prompts are this project's own.

The score is DAPO's: the last ``Answer:`` line, or else the last whole ``\boxed{}``, in its normal
form, equals the reference letter for letter. Whether math-verify takes the answer, as people write
it (`read_answer`), for equal to the reference is the metric ``math_verify`` beside it; answers that
it could not read in bounded time are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from opcd_bench.tasks._math_question import question
from opcd_bench.tasks._prompts import shipped

from opcd_bench import Context, DataError, DataTask, Example, Grade, Split
from opcd_bench.envs import data_sets
from opcd_bench.envs.data_files import Row
from opcd_bench.envs.data_sets import DataPart, HubSplit, value_of
from opcd_bench.envs.data_splits import divided
from opcd_bench.envs.math_answers import dapo_answer, normal_form, read_answer, undecided
from opcd_bench.envs.math_equality import equivalent

SIZES: Mapping[Split, int | None] = {"train": None, "dev": 1000, "test": 1000}
PARTS = (
    DataPart(
        "train",
        ("train", "dapo_train", "dapo-math-17k", "dapo_math_17k"),
        HubSplit("ytz20/dapo_train", alone=True),
    ),
    DataPart(
        "dev",
        ("validation", "dev", "dapo_validation"),
        HubSplit("ytz20/dapo_validation", alone=True),
        required=False,
    ),
    DataPart(
        "test",
        ("test", "dapo_test"),
        HubSplit("ytz20/dapo_test", alone=True),
        required=False,
    ),
)
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_HEAD = "Solve the following math problem step by step."
_TAIL = "Remember to put your answer on its own line"


class DapoMath(DataTask):
    """One reply a problem; right if its answer is, as DAPO reads and compares it."""

    name = "dapo_math"
    version = 3
    summary = "competition problems with integer answers (DAPO-Math-17k, English); lessons told"

    def context(self) -> Context:
        """Lessons written by hand, at the head of the problem."""
        return Context(shipped("math_experience"), "user")

    @classmethod
    def load(cls, data_dir: str | None) -> Mapping[Split, Sequence[Example]]:
        """Problems with their answers."""
        pools = data_sets.pools(cls.name, PARTS, data_dir=data_dir)
        rows = divided(
            cls.name,
            {
                split: (row for row in pool if not _CHINESE.search(problem_of(row)))
                for split, pool in pools.items()
            },
            text=problem_of,
            sizes=SIZES,
            answer=answer_of,
        )
        return {
            split: [Example({"problem": problem_of(row)}, answer_of(row)) for row in of]
            for split, of in rows.items()
        }

    def question(self, example: Example) -> str:
        """The problem, and the form of its answer."""
        return question(example.content["problem"])

    def graded(self, example: Example, reply: str) -> Grade:
        """DAPO's score, and ``math_verify`` beside it."""
        read, written = dapo_answer(reply), read_answer(reply)
        right = str(example.reference)
        same = written is not None and (
            (normal_form(written) == normal_form(right) and not undecided(written))
            or equivalent(right, written)
        )
        also = {"math_verify": float(same)}
        if read is None and written is None:
            return Grade(None, None, "no 'Answer:' line and no box", also)
        them = "them" if written in (read, None) else repr(written)[:80]
        verdict = f"math-verify takes {them} for {'equal' if same else 'different too'}"
        if read is None:
            return Grade(None, None, f"no 'Answer:' line as DAPO reads it, no box; {verdict}", also)
        if normal_form(read) == normal_form(right):
            return Grade(1.0, read, f"it is {right}", also)
        return Grade(0.0, read, f"it is {right}, not {normal_form(read)[:80]!r}; {verdict}", also)


def problem_of(row: Row) -> str:
    """The problem itself, from either schema; DataError for a row of another."""
    extra = row.get("extra_info")
    raw = extra.get("raw_problem") if isinstance(extra, Mapping) else None
    if raw:
        return str(raw).strip()
    column = "content" if "content" in row else "prompt"
    chat = value_of(row, column, "dapo_math")
    return _unwrapped(chat if isinstance(chat, str) else _asked(chat, row))


def _asked(chat: Any, row: Row) -> str:
    """What the user says in a list of chat messages."""
    try:
        return "\n\n".join(turn["content"] for turn in chat if turn["role"] == "user")
    except (TypeError, KeyError) as error:
        raise DataError(
            f"{data_sets.where(row, 'dapo_math')}: a problem is a text, or a list of "
            f"messages with role and content, not {str(chat)[:60]!r}"
        ) from error


def _unwrapped(text: str) -> str:
    """A problem without the instructions that both sets put before and after it."""
    parts = text.strip().split("\n\n")
    if len(parts) > 1 and parts[0].startswith(_HEAD):
        parts = parts[1:]
    if len(parts) > 1 and parts[-1].startswith(_TAIL):
        parts = parts[:-1]
    return "\n\n".join(parts).strip()


def answer_of(row: Row) -> str:
    """The reference answer: ``reward_model.ground_truth``, or else ``answer``."""
    kept = row.get("reward_model")
    found = kept.get("ground_truth") if isinstance(kept, Mapping) else None
    answer = str(value_of(row, "answer", "dapo_math") if found is None else found).strip()
    if not answer:
        problem = problem_of(row)[:60]
        raise DataError(f"{data_sets.where(row, 'dapo_math')}: no answer to {problem!r}")
    return answer


TASK = DapoMath
