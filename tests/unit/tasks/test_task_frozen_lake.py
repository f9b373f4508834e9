"""Frozen Lake as a task: TextArena's verdicts on maps that are split by content."""

import functools
import itertools
import random
import re
import subprocess
import sys

import pytest
from opcd_bench.tasks.frozen_lake import TURNS, FrozenLake

from opcd_bench.envs.floors import BoardGame, floors
from opcd_bench.envs.task import SPLITS, assert_disjoint
from opcd_bench.envs.textarena import FrozenLakeGame as TextArenaLake
from opcd_bench.envs.worlds import lake
from opcd_bench.envs.worlds.board import ahead_of, cell_of
from opcd_bench.envs.worlds.game_world import LAKE_WORLD, believed_world
from opcd_bench.envs.worlds.lake import worked_reply
from opcd_bench.errors import ConfigError

UP, DOWN, LEFT, RIGHT = (f"[{LAKE_WORLD.controls[way]}]" for way in ("up", "down", "left", "right"))
RULE_WORDS = "hole goal rubble safe frozen lose win up down left right wall fall".split()


def opened(history="last", start="a1"):
    task = FrozenLake(history=history)
    example = next(one for one in task.examples("test") if one.content["start"] == start)
    return example, task.open(example, seed=0)


def seen(message):
    """The lake that a user message shows."""
    pairs = re.findall(r" (\S) ([a-d][1-4])", message["content"])
    player = next(cell_of(cell) for mark, cell in pairs if mark == "P")
    return lake.Lake(player, {cell_of(cell): mark for mark, cell in pairs if mark not in "P_"})


def with_holes_beside_the_start():
    """A map that starts at a1 with a hole to the right, and its episode."""
    task = FrozenLake()
    example = next(
        one
        for one in task.examples("train")
        if one.content["start"] == "a1" and "a2" in one.content["holes"]
    )
    return task.open(example, seed=0)


def test_splits_are_disjoint_by_map_and_of_the_documented_sizes():
    task = FrozenLake()
    assert_disjoint(task)
    assert [len(task.examples(split)) for split in SPLITS] == [1500, 200, 500]
    maps = [
        (one.content["goal"], *one.content["holes"])
        for split in SPLITS
        for one in task.examples(split)
    ]
    assert len(set(maps)) == len(maps)
    assert {len(one) - 1 for one in maps} == {3, 4, 5}
    assert {one[0] for one in maps} == {"a1", "a4", "d1", "d4"}


def test_dev_and_test_maps_are_the_ones_that_pretraining_holds_out():
    task = FrozenLake()
    for split in SPLITS:
        for example in task.examples(split):
            holes = frozenset(cell_of(text) for text in example.content["holes"])
            goal = frozenset([cell_of(example.content["goal"])])
            assert lake.is_held_out(holes, goal) == (split != "train")


def test_the_first_ids_are_what_they_were():
    task = FrozenLake()
    assert [task.examples(split)[0].id for split in SPLITS] == [
        "1ce8dea6b1019732",
        "58e259ff0c19ae06",
        "438b1e7471c3aa93",
    ]


def test_listing_the_examples_imports_neither_textarena_nor_torch():
    code = (
        "import sys; from opcd_bench.tasks.frozen_lake import TASK as A; "
        "from opcd_bench.tasks.sokoban import TASK as B; "
        "A().examples('test'); B().examples('test'); A().context(); B().context(); "
        "print([name for name in ('textarena', 'torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_board_shows_what_textarena_shows_and_rubble_besides():
    rng = random.Random(1)
    marks = {"H": LAKE_WORLD.marks["hole"], "G": LAKE_WORLD.marks["goal"]}
    for example in FrozenLake().examples("test")[:15]:
        episode = FrozenLake().open(example, 0)
        rubble = {cell_of(text) for text in example.content["rubble"]}
        for _ in range(6):
            rows = [line for line in episode._play.game.rendered().splitlines() if "|" in line]
            theirs = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
            ours = seen(episode.messages[-1])
            for row, column in itertools.product(range(4), range(4)):
                mark = ours.things.get((row, column))
                symbol = theirs[row][column]
                if symbol == "P":
                    assert ours.player == (row, column)
                elif (row, column) in rubble:
                    assert symbol == "" and mark == LAKE_WORLD.marks["rubble"]
                else:
                    assert mark == (marks[symbol] if symbol else None)
            if episode.step(rng.choice([UP, DOWN, LEFT, RIGHT])).done:
                break


def test_the_plain_messages_leak_no_rule_in_any_turn():
    rng = random.Random(3)
    for history in ("last", "full"):
        for example in FrozenLake().examples("dev")[:20]:
            episode = FrozenLake(history=history).open(example, 0)
            done = False
            while not done:
                for message in episode.messages:
                    words = set(re.findall(r"[a-z]+", message["content"].lower()))
                    assert not words & (set(RULE_WORDS) - {"lake"})
                    assert message["role"] == "assistant" or message["content"].startswith(
                        "Lake: choose the best action.\n"
                    )
                done = episode.step(rng.choice([UP, DOWN, LEFT, RIGHT])).done


def test_the_context_tells_all_seven_facts():
    assert FrozenLake().context().text == (
        "Rules: up m. down t. left g. right r. hole is &. goal is %. rubble is +."
    )
    assert FrozenLake().context().placement == "system"


def test_the_generators_own_replies_win_150_test_maps():
    rng = random.Random(0)
    for example in FrozenLake().examples("test")[:150]:
        episode, done = FrozenLake().open(example, 0), False
        while not done:
            done = episode.step(worked_reply(rng, seen(episode.messages[-1]), LAKE_WORLD)).done
        grade = episode.grade()
        assert grade.score == 1.0 and grade.why == "won in 6 turns", grade


def test_a_hole_loses_and_the_feedback_says_what_happened():
    episode = with_holes_beside_the_start()
    assert episode.step(f"right is {RIGHT}.").done
    grade = episode.grade()
    assert (grade.score, grade.answer, grade.why) == (0.0, "[r]", "fell into a hole at turn 1")
    assert episode.feedback() == "[r] moved you from a1 to a2. a2 was &: you fell in and lost."
    with pytest.raises(RuntimeError, match="over"):
        episode.step(RIGHT)


@pytest.mark.parametrize(
    ("replies", "score", "why"),
    [
        ([UP, LEFT], 0.0, "two invalid moves in a row, the last at turn 2"),
        (["no idea", "none"], None, "no action could be read at turn 2"),
        ([UP, "none"], None, "no action could be read at turn 2"),
        (["none", UP], 0.0, "two invalid moves in a row, the last at turn 2"),
        ([UP, DOWN, LEFT, "[w]"], None, "no action could be read at turn 4"),
    ],
)
def test_one_invalid_move_is_tolerated_and_a_second_in_a_row_loses(replies, score, why):
    episode = with_holes_beside_the_start()
    turns = [episode.step(reply) for reply in replies]
    assert [turn.done for turn in turns] == [False] * (len(turns) - 1) + [True]
    assert (episode.grade().score, episode.grade().why) == (score, why)
    assert episode.feedback().endswith("\nrefused twice: you lost.")


def test_an_invalid_move_between_valid_ones_goes_on_until_the_turn_limit():
    episode = with_holes_beside_the_start()
    replies = [UP, DOWN, LEFT, UP, LEFT, DOWN, "?", UP, UP, DOWN]
    dones = [episode.step(reply).done for reply in replies]
    assert dones == [False] * 9 + [True]
    grade = episode.grade()
    assert (grade.score, grade.why) == (0.0, "turn limit of 10 reached")
    assert grade.answer == "[m] [t] [g] [m] [g] [t] [?] [m] [m] [t]"
    assert episode.feedback().splitlines()[-2:] == [
        "[t] moved you from a1 to b1.",
        "the turns are over.",
    ]


def test_an_unfinished_game_is_lost():
    _, episode = opened()
    assert episode.grade().score == 0.0 and episode.grade().why == "unfinished after 0 turns"


def test_history_says_whether_earlier_turns_are_read():
    for history, lengths in (("last", [1, 1, 1]), ("full", [1, 3, 5])):
        _, episode = opened(history)
        found = [len(episode.messages)]
        first = episode.messages[0]
        for reply in ("a [m]", "b [p]"):
            turn = episode.step(reply)
            if not turn.done:
                assert turn.messages == episode.messages
            found.append(len(turn.messages))
        assert found == lengths
        assert all(message["role"] == "user" for message in episode.messages[::2])
        if history == "full":
            assert episode.messages[0] == first
            assert [m["content"] for m in episode.messages[1::2]] == ["a [m]", "b [p]"]
    assert FrozenLake(history="full").options() == {"history": "full"}
    with pytest.raises(ConfigError, match=r"'last'.*'full'"):
        FrozenLake(history="all")


def test_games_neither_read_nor_move_the_global_random_state():
    import numpy as np

    random.seed(5)
    state, numpy_state = random.getstate(), np.random.get_state()[1].tolist()
    boards = []
    for _ in range(2):
        _, episode = opened()
        episode.step(DOWN)
        boards.append(episode.messages)
    assert boards[0] == boards[1]
    assert random.getstate() == state
    assert np.random.get_state()[1].tolist() == numpy_state


def played(game, ways):
    """Whether a sequence of moves wins in TextArena."""
    for way in ways:
        verdict = game.step(way)
        if verdict.done:
            return verdict.won
    return False


def test_floors_agree_with_playing_every_plan_through_textarena():
    start, goal, holes, turns = (1, 0), (2, 2), {(1, 1), (0, 2)}, 5
    board = BoardGame(start, ahead_of, lambda at: at == goal, lambda at: at in holes)
    wins = [
        played(TextArenaLake(4, start, goal, holes), plan)
        for plan in itertools.product(("up", "down", "left", "right"), repeat=turns)
    ]
    chance, plan = floors([board], turns)
    assert chance.value == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    assert 0 < chance.value < 0.1
    assert plan.value == 1.0


def test_the_best_blind_plan_wins_in_textarena_what_the_floor_says():
    task = FrozenLake()
    chance, plan = task.floors(task.examples("dev"))
    ways = plan.how.split(": ")[1].split(";")[0].split()
    wins = 0
    for example in task.examples("dev"):
        content = example.content
        cells = [cell_of(content[key]) for key in ("start", "goal")]
        game = TextArenaLake(4, *cells, {cell_of(text) for text in content["holes"]})
        wins += played(game, ways)
    assert plan.value == pytest.approx(wins / 200)
    assert chance.value < 0.01 < 0.05 < plan.value < 0.2


def test_every_map_can_be_won_so_the_ceiling_is_one():
    for split in SPLITS:
        assert FrozenLake().best_possible(FrozenLake().examples(split)).value == 1.0
    assert FrozenLake.max_turns == TURNS == 10


def test_a_player_who_guesses_marks_and_controls_wins_hardly_ever():
    rng = random.Random(2)
    wins = 0
    for example in FrozenLake().examples("dev"):
        episode, done = FrozenLake().open(example, 0), False
        while not done:
            board = seen(episode.messages[-1])
            fits = functools.partial(lake.is_winnable, board)
            guess = believed_world(rng, LAKE_WORLD, (), fits)
            done = episode.step(worked_reply(rng, board, guess)).done
        wins += episode.grade().score or 0.0
    assert wins / 200 < 0.1
