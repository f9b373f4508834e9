"""The contracts of a task: splits, ids, the episode protocol, grading, floors, no leak."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from opcd_bench.envs.task import (
    SPLITS,
    TRAINING_PROMPTS,
    Episode,
    Example,
    Grade,
    Message,
    Probe,
    Task,
    assert_disjoint,
)
from opcd_bench.errors import DataError
from opcd_bench.experience.trace import says_answer
from opcd_bench.runner.contracts.contract import Contract, ContractBroken
from opcd_bench.runner.plugins import build_task
from opcd_bench.seeds import seed_of

PLAYED = 12
"""Examples of each split that are opened and played."""

ROLES = ("system", "user", "assistant")
REPLIES = ("", "I do not know.", "[up]", "Answer: 7", "\u2603 {}[]()\n\n42")
"""What a student may write that no grader may stumble over; none needs to be right."""

SILENT = "I do not know."


def seed(task: Task, example: Example) -> int:
    """The seed that the checks open an episode with."""
    return seed_of("check", task.name, example.id)


def played_examples(task: Task) -> list[Example]:
    """The first examples of each split."""
    return [example for split in SPLITS for example in list(task.examples(split))[:PLAYED]]


def _names(task: Task) -> str:
    if not task.name.isidentifier() or task.name != task.name.lower():
        raise ContractBroken(f"name {task.name!r}: use lower-case letters, digits and underscores")
    if type(task.version) is not int or task.version < 1:
        raise ContractBroken(f"version is {task.version!r}; write a whole number from 1 on")
    if not task.summary.strip() or "\n" in task.summary:
        raise ContractBroken("summary is one line, and not empty")
    if task.max_turns < 1:
        raise ContractBroken(f"max_turns is {task.max_turns}; an episode takes at least one reply")
    return f"version {task.version}"


def _disjoint(task: Task) -> str:
    try:
        assert_disjoint(task)
    except DataError as error:
        raise ContractBroken(str(error)) from None
    sizes = {split: len(task.examples(split)) for split in SPLITS}
    empty = [split for split, size in sizes.items() if size == 0]
    if empty:
        raise ContractBroken(f"no examples in {', '.join(empty)}")
    return ", ".join(f"{size} {split}" for split, size in sizes.items())


def _stable(task: Task) -> str:
    again = build_task(type(task), data_dir=task.data_dir, **dict(task.options()))
    for split in SPLITS:
        ids = [example.id for example in task.examples(split)]
        if ids != [example.id for example in task.examples(split)]:
            raise ContractBroken(f"{split}: a second reading has other examples or another order")
        if ids != [example.id for example in again.examples(split)]:
            raise ContractBroken(f"{split}: a second instance has other examples or another order")
    if task.context() != again.context():
        raise ContractBroken("a second instance tells another context")
    return ""


def _protocol(task: Task) -> str:
    turns = 0
    for example in played_examples(task):
        untouched = task.open(example, seed(task, example))
        _check_messages(untouched.messages, example)
        early = untouched.grade()
        if early.score not in (None, 0.0):
            raise ContractBroken(
                f"example {example.id}: without a reply it is graded {early.score}, not lost"
            )
        for replies in _scripts(untouched, example):
            turns = max(turns, len(_play(task, example, replies)) - 1)
    return f"up to {turns} turn{'s' * (turns != 1)} played"


def _scripts(episode: Episode, example: Example) -> list[tuple[str, ...]]:
    """What is answered, turn by turn and then over again: junk, the reference, listed actions."""
    actions = dict.fromkeys(re.findall(r"\[\w+\]", episode.messages[-1]["content"]))
    known = () if example.reference is None else (f"Answer: {example.reference}",)
    return [(reply,) for reply in (*REPLIES, *known, *actions)] + [tuple(actions)] * bool(actions)


def _play(task: Task, example: Example, replies: Sequence[str]) -> list[Any]:
    """Answer with ``replies`` in a circle; returns all that was seen, the grade last."""
    episode: Episode = task.open(example, seed(task, example))
    seen: list[Any] = []
    for turn_number in range(1, task.max_turns + 1):
        turn = episode.step(replies[(turn_number - 1) % len(replies)])
        seen.append((turn, episode.feedback()))
        if turn.done:
            break
        _check_messages(turn.messages, example)
        if tuple(episode.messages) != tuple(turn.messages):
            raise ContractBroken(f"example {example.id}: step() did not set the episode's messages")
        if turn_number == task.max_turns:
            raise ContractBroken(
                f"example {example.id}: not over after max_turns = {task.max_turns} replies"
            )
    grade = episode.grade()
    if not grade.why.strip():
        raise ContractBroken(f"example {example.id}: a grade without a reason (why is empty)")
    if grade.score is not None and not math.isfinite(grade.score):
        raise ContractBroken(f"example {example.id}: score {grade.score}")
    return [*seen, grade]


def _check_messages(messages: Sequence[Message], example: Example) -> None:
    if not messages:
        raise ContractBroken(f"example {example.id}: an open episode has no messages")
    for message in messages:
        if set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise ContractBroken(f"example {example.id}: a message is {message!r}")
    if messages[-1]["role"] != "user":
        raise ContractBroken(
            f"example {example.id}: the messages end with {messages[-1]['role']!r}, not 'user'"
        )


def _deterministic(task: Task) -> str:
    for example in played_examples(task)[:: max(1, PLAYED // 4)]:
        for replies in _scripts(task.open(example, seed(task, example)), example):
            if _play(task, example, replies) != _play(task, example, replies):
                raise ContractBroken(
                    f"example {example.id}: the same seed and replies gave two episodes"
                )
    return ""


def _thinking(task: Task) -> str:
    """What is thought is read by no grader: neither for the answer nor against it."""
    right = read = 0
    for example in played_examples(task)[:: max(1, PLAYED // 4)]:
        answers = _answers(task.open(example, seed(task, example)), example)
        silent, empty = (_grade(task, example, reply) for reply in (SILENT, ""))
        for number, answer in enumerate(answers):
            for reply, alone in (
                (f"<think>\n{answer}\n</think>\n\n{SILENT}", silent),
                (f"{answer}\n</think>\n\n{SILENT}", silent),  # the prompt opened the block
                (f"<think>\n{answer}", empty),  # cut while it was thinking
            ):
                _same_grade(example, reply, _grade(task, example, reply), alone)
            said = _grade(task, example, answer)
            right += bool(said.score)
            read += (said.score, said.answer) != (silent.score, silent.answer)
            other = answers[number - 1] if len(answers) > 1 else "Answer: 0"
            reply = f"<think>\n{other}\n</think>\n\n{answer}"
            _same_grade(example, reply, _grade(task, example, reply), said)
    if not read:
        return (
            "NOT TESTED: no reply that was tried is graded otherwise than silence, so neither is "
            "a thought; list a game's actions in its prompt as [word], or give a reference answer"
        )
    return f"{right} right answer{'s' * (right != 1)} behind a wrong thought"


def _answers(episode: Episode, example: Example) -> list[str]:
    """What may be read as an answer: the reference in the usual forms, or the listed actions."""
    reference = example.reference
    forms = ("Answer: {}", "<answer>{}</answer>", "\\boxed{{{}}}", "{}")
    known = [] if reference is None else [form.format(reference) for form in forms]
    listed = dict.fromkeys(re.findall(r"\[\w+\]", episode.messages[-1]["content"]))
    return [*known, *listed] or ["Answer: 7", "[up]"]


def _grade(task: Task, example: Example, reply: str) -> Grade:
    """The grade of an episode that is answered with ``reply`` at every turn."""
    grade = _play(task, example, (reply,))[-1]
    assert isinstance(grade, Grade)
    return grade


def _feedback(task: Task) -> str:
    """Lessons are written from the feedback on wrong attempts: it may not say the answer.

    A number of it may be the answer by chance, so it is broken where half of the examples do.
    """
    wrong = given = 0
    for example in played_examples(task):
        first = task.open(example, seed(task, example)).messages
        *turns, grade = _play(task, example, (SILENT,))
        read = [*first, *(message for turn, _ in turns for message in turn.messages)]
        if grade.score != 1.0:
            wrong += 1
            known = [SILENT, *(message["content"] for message in read)]
            given += says_answer(turns[-1][1], example, known)
    if given and 2 * given >= wrong:
        raise ContractBroken(
            f"feedback() says the reference answer or the hint after {given} of {wrong} wrong "
            "attempts, and lessons are written from it; say what became of the attempt alone"
        )
    return f"after {wrong} wrong attempts"


def _same_grade(example: Example, reply: str, grade: Grade, alone: Grade) -> None:
    """Raise where a thought changed a grade; ``alone`` is that of the same reply without it."""
    if (grade.score, grade.answer) == (alone.score, alone.answer):
        return
    raise ContractBroken(
        f"example {example.id}: {reply!r} is graded {grade.score} (answer {grade.answer!r}), and "
        f"without what is thought in it {alone.score} (answer {alone.answer!r}): thinking is never "
        "graded. Build on opcd_bench.envs.question, or grade envs.thinking.without_thinking(reply)"
    )


def _bounds(task: Task) -> str:
    told = []
    for split in SPLITS:
        examples = task.examples(split)
        best, floors = task.best_possible(examples), task.floors(examples)
        for name, value in [("best possible", best.value), *((f.name, f.value) for f in floors)]:
            if not 0.0 <= value <= 1.0:
                raise ContractBroken(f"{split}: {name} is {value}, outside 0 … 1")
        above = [floor.name for floor in floors if floor.value > best.value + 1e-9]
        if above:
            raise ContractBroken(f"{split}: {', '.join(above)} lies above the best possible score")
        if not floors:
            raise ContractBroken(
                f"{split}: no floor; say what a policy that does not use the context scores"
            )
        if any(not how.strip() for how in (best.how, *(floor.how for floor in floors))):
            raise ContractBroken(
                f"{split}: a floor or the best possible score does not say how it was computed"
            )
        told.append(f"{split} {max(f.value for f in floors):.2f} to {best.value:.2f}")
    return "; ".join(told)


def _probes(task: Task) -> str:
    """Its further test sets keep what its splits keep, and ask nothing that is trained on."""
    seen = {example.id for split in ("train", "dev") for example in task.examples(split)}
    told = []
    for probe in task.probes():
        if not probe.name.isidentifier() or probe.name != probe.name.lower():
            raise ContractBroken(
                f"further test set {probe.name!r}: use lower-case letters, digits and underscores"
            )
        if probe.name == TRAINING_PROMPTS:
            raise ContractBroken(f"{probe.name} is what `train_items` scores; use another name")
        if not probe.summary.strip() or "\n" in probe.summary:
            raise ContractBroken(f"{probe.name}: its summary is one line, and not empty")
        floors = probe.floors_here if probe.examples else ()
        if not floors:
            raise ContractBroken(f"{probe.name}: has no examples, or no floor")
        ids = [example.id for example in probe.examples]
        if len({*ids}) < len(ids) or seen.intersection(ids):
            raise ContractBroken(f"{probe.name}: an example is there twice, or in train or dev")
        wrong = [floor.name for floor in floors if not 0.0 <= floor.value <= 1.0]
        if wrong or any(not floor.how.strip() for floor in floors):
            raise ContractBroken(
                f"{probe.name}: a floor lies outside 0 … 1, or does not say how it was computed"
            )
        _play_probe(task, probe)
        told.append(f"{len(ids)} {probe.name}")
    names = [probe.name for probe in task.probes()]
    if len({*names}) < len(names):
        raise ContractBroken("two of its further test sets have one name")
    again = build_task(type(task), data_dir=task.data_dir, **dict(task.options())).probes()
    if [[e.id for e in one.examples] for one in again] != [
        [e.id for e in one.examples] for one in task.probes()
    ]:
        raise ContractBroken("a second instance has other further test sets")
    return ", ".join(told) or "none"


def _play_probe(task: Task, probe: Probe) -> None:
    """Open, tell and answer its first examples, twice."""
    contexts = probe.told(task)
    for example in probe.examples[:PLAYED]:
        episode = task.open(example, seed(task, example))
        _check_messages(episode.messages, example)
        if contexts is not None:
            contexts.of(task.name, 0, example.id).tell(episode.messages)
        for replies in _scripts(episode, example):
            if _play(task, example, replies) != _play(task, example, replies):
                raise ContractBroken(
                    f"{probe.name}, example {example.id}: the same seed and replies gave two "
                    "episodes"
                )


def _leak_patterns(task: Task) -> str:
    for pattern in task.leak_patterns:
        try:
            looked_for = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise ContractBroken(
                f"leak_patterns: {pattern!r} is no regular expression ({error})"
            ) from None
        for example in played_examples(task):
            for message in task.open(example, seed(task, example)).messages:
                if looked_for.search(message["content"]):
                    raise ContractBroken(
                        f"leak_patterns: {pattern!r} stands in the prompt of example "
                        f"{example.id}, so that a response which repeats it leaks nothing"
                    )
    return f"{len(task.leak_patterns)} looked for"


def _no_leak(task: Task) -> str:
    parts = re.split(r"[\n.;]", task.context().text)
    telling = [line for line in (" ".join(part.split()) for part in parts) if line.count(" ") >= 2]
    for example in played_examples(task):
        episode = task.open(example, seed(task, example))
        plain = [" ".join(message["content"].split()) for message in episode.messages]
        for line in telling:
            if any(line in content for content in plain):
                raise ContractBroken(
                    f"example {example.id}: the prompt holds the context's words {line!r}"
                )
        if example.hint and any(example.hint in content for content in plain):
            raise ContractBroken(f"example {example.id}: the prompt holds the hint")
    return f"{len(telling)} sentence{'s' * (len(telling) != 1)} of context looked for"


TASK_CONTRACTS: tuple[Contract[Task], ...] = (
    Contract("has a name, a version and a summary", _names),
    Contract("its splits are disjoint by content and not empty", _disjoint),
    Contract("its examples keep their ids and their order", _stable),
    Contract("its episodes keep the protocol for any reply", _protocol),
    Contract("the same seed and replies give the same episode", _deterministic),
    Contract("what is thought in a reply is never graded", _thinking),
    Contract("its feedback on wrong attempts does not say the answer", _feedback),
    Contract("its floors and best possible score lie in 0 … 1, and say how computed", _bounds),
    Contract("its further test sets keep what its splits keep", _probes),
    Contract("no sentence of its context is in a prompt without it", _no_leak),
    Contract("what only its readers would say is in no prompt without it", _leak_patterns),
)
