"""What a reflection reads: the own attempt and the environment's words, never the answer."""

import dataclasses

import pytest
from scripted import SECRET, Codes, Scripted

from opcd_bench.envs.task import Example, Grade
from opcd_bench.envs.worlds.reflection import reflection_messages
from opcd_bench.errors import DataError
from opcd_bench.experience.prompts import GeneralPrompts, MicroPrompts, prompts_for
from opcd_bench.experience.reflect import Asked, readable, reflections
from opcd_bench.experience.trace import Trace, TraceTurn, gives_away, trace_of
from opcd_bench.rollout.engine import Reply, Sampling
from opcd_bench.rollout.trajectory import Skipped, Trajectory, TurnRecord
from opcd_bench.runner import registry

GREEDY = Sampling(temperature=0.0, max_completion_length=64)
QUESTION = GeneralPrompts(game=False, placement="user")
GAME = GeneralPrompts(game=True, placement="inside")
KINDS = [MicroPrompts(), QUESTION, GAME]


def attempt(*pairs, feedback="", score=0.0, why="because", outcome="wrong"):
    turns = tuple(
        TurnRecord(({"role": "user", "content": asked},), (1,), Reply((1,), (-1.0,), said, "stop"))
        for asked, said in pairs
    )
    return Trajectory("id", turns, Grade(score, "a", why), outcome, feedback)


def shown(prompts, trajectory, previous=()):
    return "\n".join(m["content"] for m in prompts.reflection(trace_of(trajectory), previous))


# --- the reference answer -----------------------------------------------------------------------


@pytest.mark.parametrize("prompts", KINDS, ids=["micro", "question", "game"])
def test_no_prompt_depends_on_the_grade_its_reason_or_the_example(prompts):
    """By construction: a trace has none of them, and others leave every byte of the prompt."""
    one = attempt(("What?", "42"), feedback="no.", why=f"{SECRET}-1 is right")
    other = dataclasses.replace(one, grade=Grade(1.0, SECRET, SECRET), outcome="correct")
    assert shown(prompts, one) == shown(prompts, other)
    assert SECRET not in shown(prompts, one) + prompts.raw(trace_of(one))
    assert {f.name for f in dataclasses.fields(Trace)} == {"example_id", "turns", "feedback"}


SECRETIVE = [
    ("it is worked as 3 + 4", "12", False),
    ("12 is worked as 3 + 4", "12", True),
    ("112 is no 12th", "12", False),
    ("The sum was  twelve   apples.", "twelve apples", True),
    ("your answer B was wrong", "A", False),
    ("the right answer was (A)", "A", True),
    ("Correct: a", "A", True),
    ("", "A", False),
    ("all of it", None, False),
]


@pytest.mark.parametrize(("feedback", "reference", "secret"), SECRETIVE)
def test_feedback_that_says_the_answer_gives_it_away(feedback, reference, secret):
    example = Example({"n": 1}, reference=reference)
    asked = "Is it (A) this or (B) that?"
    assert gives_away(attempt((asked, "B"), feedback=feedback), example) is secret


def test_an_answer_that_the_problem_or_the_attempt_holds_is_no_secret_unless_it_is_announced():
    example = Example({"n": 1}, reference="7")
    for pair in (("What is 7 @ 2?", "9"), ("What?", "First 7, so 9")):
        assert not gives_away(attempt(pair, feedback="worked as 7 + 2"), example)
        assert gives_away(attempt(pair, feedback="the answer is 7"), example)


def test_after_a_right_attempt_there_is_no_secret_left():
    example = Example({"n": 1}, reference="7")
    right = attempt(("What?", "seven"), feedback="yes, the answer is 7", score=1.0)
    assert not gives_away(right, example)


def test_a_hint_is_as_secret_as_the_reference():
    example = Example({"n": 1}, hint="add seven")
    assert gives_away(attempt(("What?", "8"), feedback="you had to add seven."), example)


def test_what_cannot_be_read_is_not_asked_and_counted_by_its_reason(tiny_loaded):
    example = Example({"n": 1}, reference="12")
    long = attempt(("x" * 3000, "y"), feedback="no.")
    asked = [
        Asked(attempt(("What?", "3"), feedback="no."), example, 1),
        Asked(attempt(("What?", "3"), feedback="12"), example, 2),
        Asked(long, example, 3),
        Asked(attempt(("What?", "3"), outcome="failed"), example, 4),
        Asked(Skipped("id", 0, 9, 5), example, 5),
    ]
    engine = Scripted(tiny_loaded, lambda prompt, seed: f"- EXPERIENCE ITEM: of {seed}")
    found = reflections(asked, QUESTION, tiny_loaded, engine, GREEDY)
    assert [one.status for one in found] == ["read", "withheld", "too long", "failed", "skipped"]
    assert [one.items for one in found] == [("of 1",), (), (), (), ()]
    assert len(engine.asked) == 1 and "# Problem\nWhat?" in engine.asked[0]
    assert found[0].to_json()["messages"] == list(found[0].messages)
    assert found[2].prompt_tokens > 2048 - 64


def test_every_answer_goes_to_its_own_attempt(tiny_loaded):
    example = Example({"n": 1})
    asked = [Asked(attempt((f"Q{i}", "r")), example, i) for i in range(5)]
    asked.insert(2, Asked(Skipped("id", 0, 9, 5), example, 9))
    engine = Scripted(tiny_loaded, lambda p, seed: f"- EXPERIENCE ITEM: {p.count('Q3')}{seed}")
    found = reflections(asked, QUESTION, tiny_loaded, engine, GREEDY)
    assert [one.items for one in found] == [("00",), ("01",), (), ("02",), ("13",), ("04",)]


def test_the_feedback_of_the_tasks_that_ship_is_hardly_ever_withheld():
    """A lesson less is bearable; a task that withholds all would be worth nothing."""
    task = registry.task("rule_math")
    withheld = 0
    for example in task.examples("train")[:300]:
        episode = task.open(example, 0)
        episode.step("Answer: 3")
        tried = attempt((episode.messages[-1]["content"], "Answer: 3"), feedback=episode.feedback())
        withheld += readable(tried, example) == "withheld"
    assert withheld < 45  # a chain of five shows many digits, one of which is the answer


# --- the words ----------------------------------------------------------------------------------


def test_micro_is_asked_in_the_only_words_that_it_was_taught():
    one = attempt(("first board", "[a]"), ("second board", "[b]"), feedback="fell.")
    last = [{"role": "user", "content": "second board"}]
    assert MicroPrompts().reflection(trace_of(one), ()) == reflection_messages(last, "[b]", "fell.")
    told = MicroPrompts().reflection(trace_of(one), ("up m.",))
    assert told[0] == {"role": "system", "content": "- EXPERIENCE ITEM: up m."}
    assert told[1:] == reflection_messages(last, "[b]", "fell.")


def test_a_question_shows_problem_attempt_feedback_and_earlier_lessons():
    text = shown(QUESTION, attempt(("What {is} 2?", "Two."), feedback="no."), ("be brief",))
    for part in (
        "# Problem\nWhat {is} 2?",
        "# Your attempt\nTwo.",
        "said\nno.",
        "do not repeat them)\n- EXPERIENCE ITEM: be brief",
        "`- EXPERIENCE ITEM:`",
    ):
        assert part in text
    bare = shown(QUESTION, attempt(("What?", "Two.")))
    assert "environment" not in bare and "have already" not in bare


def test_a_game_shows_every_turn_and_what_was_new_in_it():
    seen = [("b1", "[up]"), ("b2", "[down]")]
    full = attempt(*seen, feedback="lost.")
    history = dataclasses.replace(
        full.turns[1],
        messages=(
            {"role": "user", "content": "b1"},
            {"role": "assistant", "content": "[up]"},
            {"role": "user", "content": "b2"},
        ),
    )
    text = shown(GAME, full)
    assert text.index("Turn 1, what you saw:\nb1") < text.index("[up]") < text.index("b2")
    assert text.index("[down]") < text.index("lost.")
    assert shown(GAME, dataclasses.replace(full, turns=(full.turns[0], history))) == text


def test_lessons_are_told_where_the_paper_tells_them_and_by_default_without_a_request_to_cite():
    question = QUESTION.told(["check signs"])
    assert question.placement == "user"
    assert "- EXPERIENCE ITEM: check signs" in question.text and "used" not in question.text
    cited = GeneralPrompts(game=False, placement="user", cite=True).told(["check signs"])
    assert cited.text.endswith("Say which of them you used.")
    game = GAME.told(["# is a hole"])
    assert game.placement == "inside" and "may be wrong" in game.text
    assert MicroPrompts().told(["up m.", "down t."]) == dataclasses.replace(
        game, placement="system", text="- EXPERIENCE ITEM: up m.\n- EXPERIENCE ITEM: down t."
    )


def test_raw_traces_hold_what_was_seen_answered_and_said():
    trace = Trace("id", (TraceTurn(({"role": "user", "content": "Q"},), "R"),), "F")
    assert MicroPrompts().raw(trace) == "TASK\nQ\nREPLY\nR\nFEEDBACK\nF"
    assert QUESTION.raw(trace) == "Problem: Q\nAttempt: R\nOutcome: F"
    assert QUESTION.raw(trace) in QUESTION.told_raw([QUESTION.raw(trace)]).text
    assert "R" in GAME.raw(trace) and GAME.told_raw(["x"]).placement == "inside"


def test_prompts_go_by_model_and_by_whether_the_task_is_a_game():
    question, game = Codes(), Codes()
    game.max_turns = 3
    assert prompts_for(question, "micro-small").name == "micro"
    assert prompts_for(question, "./micro-tuned", "micro").name == "micro"
    general = prompts_for(question, "Qwen/Qwen3-1.7B")
    assert general.describe()["game"] is False and general.describe()["placement"] == "user"
    assert prompts_for(game, "Qwen/Qwen3-1.7B").describe()["placement"] == "user"
    assert prompts_for(question, "micro-small", "general").name == "general"


def test_a_game_whose_prompt_has_a_role_paragraph_is_told_after_it(monkeypatch):
    game = Codes()
    game.max_turns = 3
    example = game.examples("train")[0]
    episode = game.open(example, 0)
    episode.messages = [{"role": "user", "content": "You are P.\n\nBoard"}]
    monkeypatch.setattr(game, "open", lambda example, seed: episode)
    prompts = prompts_for(game, "Qwen/Qwen3-1.7B")
    told = prompts.told(["# is a hole"]).tell(episode.messages)
    assert told[0]["content"].startswith("You are P.\n\nNotes from episodes")
    assert told[0]["content"].endswith("\n\nBoard")


def test_the_hash_of_prompts_is_that_of_their_words():
    hashes = [prompts.describe()["hash"] for prompts in KINDS]
    cited = GeneralPrompts(game=False, placement="user", cite=True)
    assert len({*hashes, cited.describe()["hash"]}) == 4
    assert QUESTION.describe() == GeneralPrompts(game=False, placement="user").describe()


def test_a_context_that_has_no_place_in_a_prompt_says_so():
    with pytest.raises(DataError, match="context_placement"):
        GAME.told(["x"]).tell([{"role": "user", "content": "one paragraph"}])
