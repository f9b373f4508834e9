"""The paper's Frozen Lake as a task: 19 maps in all, each in one split."""

import itertools
import re

import pytest
from opcd_bench.tasks.frozen_lake_paper import GOAL, START, FrozenLakePaper, ahead_of, maps

from opcd_bench.envs.floors import BoardGame, best_plan, share_won
from opcd_bench.envs.task import SPLITS, Example, assert_disjoint
from opcd_bench.envs.textarena import FrozenLakeGame as TextArenaLake

RULE_WORDS = set("hole goal safe frozen ice lose lost win won fall edge refused invalid".split())
WAYS = ("up", "down", "left", "right")


def opened(*holes, history="last"):
    return FrozenLakePaper(history).open(Example({"holes": [list(hole) for hole in holes]}), 0)


def won(holes, plan):
    """Whether TextArena lets a plan win."""
    game = TextArenaLake(3, START, GOAL, holes)
    for way in plan:
        verdict = game.step(way)
        if verdict.done:
            return verdict.won
    return False


def test_there_are_nineteen_maps_and_each_is_in_one_split():
    task = FrozenLakePaper()
    assert_disjoint(task)
    assert [len(task.examples(split)) for split in SPLITS] == [8, 4, 7]
    in_splits = {
        frozenset(map(tuple, one.content["holes"])) for s in SPLITS for one in task.examples(s)
    }
    assert in_splits == set(maps()) and len(in_splits) == 19
    assert frozenset([(0, 1), (1, 0)]) not in in_splits
    assert frozenset([(1, 2), (2, 1)]) not in in_splits
    assert task.examples("test")[0].content == {"holes": [[0, 2], [2, 0]]}


def test_the_prompt_is_textarena_s_drawing_and_tells_no_rule():
    episode = opened((0, 1), (1, 2))
    content = episode.messages[0]["content"]
    assert episode._play.game.rendered() in content
    rows = [line.strip("|").split("|") for line in content.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells == [["P", "H", ""], ["", "", "H"], ["", "", "G"]]
    assert re.findall(r"\[\w\w*\]", content) == [
        "[up]", "[down]", "[left]", "[right]", "[w]", "[a]", "[s]", "[d]",
    ]  # fmt: skip
    assert not set(re.findall(r"[a-z]+", content.lower())) & RULE_WORDS


def test_the_context_goes_between_the_role_and_the_board():
    task = FrozenLakePaper()
    (plain,) = opened((0, 1), (1, 2)).messages
    (told,) = task.context().tell([plain])
    role, board = plain["content"].split("\n\n", 1)
    assert told["content"] == f"{role}\n\n{task.context().text}\n\n{board}"
    assert "may be wrong" not in role and "Some of it may be wrong" in task.context().text


def test_all_eight_actions_move_and_the_last_of_a_reply_counts():
    episode = opened((0, 2), (2, 0))
    for reply, at in (("[down]", (1, 0)), ("[D]", (1, 1)), ("not [up] but [ s ]", (2, 1))):
        assert not episode.step(reply).done
        assert episode._play.game.player == at
    assert episode.step("[left] <think>[up]</think> [right]").done
    assert (episode.grade().score, episode.grade().why) == (1.0, "won in 4 turns")
    assert episode.grade().answer == "[down] [d] [s] [right]"
    assert episode.feedback().splitlines()[-1] == (
        "[right] moved P from row 3, column 2 to row 3, column 3. G was there: the game is won."
    )
    back = opened((0, 2), (2, 0))
    back.step("[s]")
    back.step("[w]")
    back.step("[right]")
    back.step("[a]")
    assert back._play.game.player == START


def test_a_hole_loses():
    episode = opened((0, 1), (1, 2))
    assert episode.step("[right]").done
    assert (episode.grade().score, episode.grade().why) == (0.0, "fell into a hole at turn 1")
    assert episode.feedback() == (
        "[right] moved P from row 1, column 1 to row 1, column 2. H was there: the game is lost."
    )


@pytest.mark.parametrize(
    ("replies", "score", "why"),
    [
        (["[up]", "[left]"], 0.0, "two invalid moves in a row, the last at turn 2"),
        (["up", "[jump]"], None, "no action could be read at turn 2"),
        (["[up]", "<think>[down]"], None, "no action could be read at turn 2"),
        (["[down]", "[up]", "[down]", "[up]", "[down]"], 0.0, "turn limit of 5 reached"),
        (["[up]", "[down]", "[left]", "[down]", "[right]"], 0.0, "turn limit of 5 reached"),
    ],
)
def test_one_invalid_move_is_tolerated_and_five_turns_are_all(replies, score, why):
    episode = opened((0, 1), (1, 2))
    dones = [episode.step(reply).done for reply in replies]
    assert dones == [False] * (len(replies) - 1) + [True]
    assert (episode.grade().score, episode.grade().why) == (score, why)


def test_a_refused_step_is_said():
    episode = opened((0, 1), (1, 2))
    episode.step("[up]")
    episode.step("?")
    assert episode.feedback().splitlines() == [
        "[up] was refused: P stayed at row 1, column 1.",
        "no action was read.",
        "refused twice: you lost.",
    ]


def test_full_history_repeats_the_turns_before():
    episode = opened((0, 1), (1, 2), history="full")
    episode.step("so [down]")
    assert [message["role"] for message in episode.messages] == ["user", "assistant", "user"]
    assert FrozenLakePaper("full").options() == {"history": "full"}


def test_the_floors_are_what_textarena_makes_of_the_plans():
    task = FrozenLakePaper()
    for split in SPLITS:
        holes = [frozenset(map(tuple, one.content["holes"])) for one in task.examples(split)]
        chance, plan, of_all = task.floors(task.examples(split))
        ways = re.search(r"board: ([a-z ]+);", plan.how)[1].split()
        assert plan.value == pytest.approx(sum(won(h, ways) for h in holes) / len(holes))
        best = max(sum(won(h, p) for h in holes) for p in itertools.product(WAYS, repeat=4))
        assert plan.value == pytest.approx(best / len(holes))
        ways = of_all.how.split(",")[0].split()
        assert of_all.value == pytest.approx(sum(won(h, ways) for h in holes) / len(holes))
        assert 0.01 < chance.value < 0.02
        assert task.best_possible(task.examples(split)).value == 1.0
    assert task.floors(task.examples("test"))[1].value == pytest.approx(3 / 7)


def test_the_best_plan_wins_six_of_all_maps():
    boards = [BoardGame(START, ahead_of, GOAL.__eq__, holes.__contains__) for holes in maps()]
    plan, share = best_plan(boards, 5)
    assert share == pytest.approx(6 / 19)
    assert share_won(boards, plan) == share
    assert share_won(boards, ["down", "right", "right", "down"]) == pytest.approx(6 / 19)
    assert share_won(boards, ["up", "up"]) == 0.0
    dev = FrozenLakePaper().examples("dev")
    assert "31.6% of the 19 maps" in FrozenLakePaper().floors(dev)[2].how
