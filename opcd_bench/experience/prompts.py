"""How a model is asked for lessons, and how it is told them: the built-in model, or any other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from opcd_bench.envs.task import Context, Message, Placement, Task
from opcd_bench.envs.worlds.reflection import ITEM, reflection_messages
from opcd_bench.experience.trace import Trace, TraceTurn
from opcd_bench.hashing import digest
from opcd_bench.models.model_dir import BUILT_IN

MOST = 5
"""Most lessons that one attempt is asked for."""

QUESTION = """\
You tried to solve a problem on your own. Read the attempt again, and work out what it teaches for \
other problems of this kind.

# Problem
{problem}

# Your attempt
{attempt}
{feedback}{previous}
# What to write
Up to {most} lessons that would have helped here and will help with problems that you have not \
seen yet. Each states, in general terms, a method, a fact, a check or a trap. Leave out this \
problem's own numbers and names, and do not give its answer: no other problem shares them.
{form}"""

GAME = """\
You played a game whose rules nobody told you. Read the episode again, and work out what it shows \
about the game: what each mark on the board means, what each action does, and how to win.

# Episode
{attempt}
{feedback}{previous}
# What to write
Up to {most} lessons that would have helped here and will help on boards that you have not seen \
yet. Each states one rule or one piece of strategy, in general terms. Leave out what is true of \
this board alone.
{form}"""

FORM = f"""\
Write each lesson on a line of its own that begins with `{ITEM}`, and write nothing else."""

FEEDBACK = "\n# What the environment said\n{said}\n"
PREVIOUS = "\n# Lessons that you have already (do not repeat them)\n{items}\n"

TOLD_QUESTION = """\
Lessons from earlier attempts at problems like the one below:
{items}

Solve the problem, with the lessons in mind where they apply.{cite}"""
TRACES_QUESTION = """\
Earlier attempts at problems like the one below:

{items}

Solve the problem, with these attempts in mind where they help.{cite}"""
CITE = " Say which of them you used."
TOLD_GAME = """\
Notes from episodes that you played before. They may be wrong: where they disagree with what you \
see, trust what you see.
{items}"""


SAMPLE = Trace(
    "sample",
    tuple(TraceTurn(({"role": "user", "content": f"seen {n}"},), f"done {n}") for n in (1, 2)),
    "said",
)
"""A trace whose prompts hold all the words that do not come from a trace."""


class Prompts(ABC):
    """One way of asking for lessons and of telling them."""

    name: str

    def describe(self) -> dict[str, Any]:
        """All that the words depend on, as JSON values; ``hash`` is that of all of them."""
        asked = [self.reflection(SAMPLE, previous) for previous in ((), ("item",))]
        told = [self.told(["item"]).text, self.told_raw([self.raw(SAMPLE)]).text]
        return {"name": self.name, "hash": digest([asked, told]), **self.options()}

    def options(self) -> dict[str, Any]:
        """What else the words depend on."""
        return {}

    @abstractmethod
    def reflection(self, trace: Trace, previous: Sequence[str]) -> list[Message]:
        """The messages that ask for the lessons of an attempt; ``previous`` are those there are."""

    @abstractmethod
    def told(self, items: Sequence[str]) -> Context:
        """Lessons as a context."""

    @abstractmethod
    def raw(self, trace: Trace) -> str:
        """An attempt as an item of a context of raw traces."""

    @abstractmethod
    def told_raw(self, items: Sequence[str]) -> Context:
        """Raw traces as a context."""


def lines(items: Sequence[str]) -> str:
    """Lessons as the lines that they were written in."""
    return "\n".join(f"{ITEM} {item}" for item in items)


class MicroPrompts(Prompts):
    """The built-in model's own: the only words that its pre-training taught it to reflect on."""

    name = "micro"

    def reflection(self, trace: Trace, previous: Sequence[str]) -> list[Message]:
        """The last turn's board or problem; earlier lessons are told as any context is."""
        last = trace.turns[-1]
        asked = reflection_messages(last.messages, last.reply, trace.feedback)
        return self.told(previous).tell(asked) if previous else asked

    def told(self, items: Sequence[str]) -> Context:
        """One line a lesson, in the system message."""
        return Context(lines(items))

    def raw(self, trace: Trace) -> str:
        """What its reflection reads, without the question."""
        return "\n".join(
            part
            for turn in trace.turns
            for part in ("TASK", _problem(turn.messages), "REPLY", turn.reply)
        ) + (f"\nFEEDBACK\n{trace.feedback}" if trace.feedback else "")

    def told_raw(self, items: Sequence[str]) -> Context:
        """One trace after the other, in the system message."""
        return Context("\n".join(items))


class GeneralPrompts(Prompts):
    """For any instruction-tuned model: one-turn questions, or games of several turns.

    Where lessons go is arXiv 2602.12275's: at the head of a question's user message, and inside a
    game's after the role that it gives, with a caveat. ``cite`` adds that paper's request to say
    which lessons were used; without it a student cannot learn to cite what it does not have.
    """

    name = "general"

    def __init__(self, *, game: bool, placement: Placement, cite: bool = False) -> None:
        self.game, self.placement, self.cite = game, placement, cite

    def options(self) -> dict[str, Any]:
        """Of a question or a game, where it is told, and whether citing is asked for."""
        return {"game": self.game, "placement": self.placement, "cite": self.cite}

    def reflection(self, trace: Trace, previous: Sequence[str]) -> list[Message]:
        """The whole attempt, the environment's words if there are any, and what to write."""
        template = GAME if self.game else QUESTION
        content = template.format(
            problem=_problem(trace.turns[0].messages),
            attempt=_episode(trace) if self.game else trace.turns[-1].reply,
            feedback=FEEDBACK.format(said=trace.feedback) if trace.feedback else "",
            previous=PREVIOUS.format(items=lines(previous)) if previous else "",
            most=MOST,
            form=FORM,
        )
        return [{"role": "user", "content": content}]

    def told(self, items: Sequence[str]) -> Context:
        """The lessons with a heading, and what to do with them."""
        return self._told(TOLD_GAME if self.game else TOLD_QUESTION, lines(items))

    def raw(self, trace: Trace) -> str:
        """The problem and the attempt, or the whole episode, and the environment's words."""
        attempt = (
            _episode(trace)
            if self.game
            else f"Problem: {_problem(trace.turns[0].messages)}\nAttempt: {trace.turns[-1].reply}"
        )
        return attempt + (f"\nOutcome: {trace.feedback}" if trace.feedback else "")

    def told_raw(self, items: Sequence[str]) -> Context:
        """Traces between blank lines, with the same heading and caveat."""
        return self._told(TOLD_GAME if self.game else TRACES_QUESTION, "\n\n".join(items))

    def _told(self, template: str, items: str) -> Context:
        return Context(template.format(items=items, cite=CITE if self.cite else ""), self.placement)


def prompts_for(task: Task, model: str, wanted: str = "auto", *, cite: bool = False) -> Prompts:
    """The prompts of a task and a model; ``auto`` takes micro's own for the built-in sizes.

    A game (a task of several turns) is told inside its first user message, where that has a second
    paragraph, and at its head where not.
    """
    if wanted == "micro" or (wanted == "auto" and model in BUILT_IN):
        return MicroPrompts()
    game = task.max_turns > 1
    first = task.open(task.examples("train")[0], 0).messages
    asked = next((m["content"] for m in first if m["role"] == "user"), "")
    placement: Placement = "inside" if game and "\n\n" in asked else "user"
    return GeneralPrompts(game=game, placement=placement, cite=cite)


def _problem(messages: Sequence[Message]) -> str:
    """What a prompt asks: the user's words alone; a system message is no part of the problem."""
    return "\n\n".join(m["content"] for m in messages if m["role"] == "user")


def _episode(trace: Trace) -> str:
    """Every turn: what was seen newly, and what was answered."""
    parts = []
    for number, turn in enumerate(trace.turns, 1):
        seen = [m["content"] for m in turn.messages if m["role"] == "user"][-1]
        parts.append(f"Turn {number}, what you saw:\n{seen}\nTurn {number}, your answer:")
        parts.append(turn.reply)
    return "\n".join(parts)
