"""Sokoban as a task: TextArena's verdicts on rooms that are split by content."""

import itertools
import json
import random
import re

import pytest
from opcd_bench.tasks import sokoban as module
from opcd_bench.tasks.sokoban import TURNS, Sokoban, read_room

from opcd_bench.envs.floors import BoardGame, floors
from opcd_bench.envs.task import SPLITS, Example, assert_disjoint
from opcd_bench.envs.textarena import SokobanGame as TextArenaSokoban
from opcd_bench.envs.textarena import generated_sokoban_room
from opcd_bench.envs.worlds import sokoban as world
from opcd_bench.envs.worlds.board import DIRECTIONS, cell_of
from opcd_bench.envs.worlds.game_world import SOKOBAN_WORLD
from opcd_bench.errors import ConfigError, DataError

UP, DOWN, LEFT, RIGHT = (f"[{letter}]" for letter in SOKOBAN_WORLD.controls.values())
RULE_WORDS = set("box target wall rubble push goal solve up down left right win lose".split())
MARKS = SOKOBAN_WORLD.marks


def seen(message):
    """The board that a user message shows."""
    pairs = re.findall(r" (\S) ([a-d][1-4])", message["content"])
    player = next(cell_of(cell) for mark, cell in pairs if mark == "P")
    return world.Board(player, {cell_of(cell): mark for mark, cell in pairs if mark not in "P_"})


def opened(text, history="last"):
    """An episode in a room written row by row, without rubble."""
    content = {"room": text.replace(" ", ""), "rubble": []}
    return Sokoban(history=history).open(Example(content), seed=0)


def test_splits_share_no_room_and_have_the_documented_sizes():
    task = Sokoban()
    assert_disjoint(task)
    assert [len(task.examples(split)) for split in SPLITS] == [1500, 200, 400]
    rooms = {
        read_room(example.content["room"])[0]
        for split in SPLITS
        for example in task.examples(split)
    }
    assert len(rooms) == 2100
    assert [task.examples(split)[0].id for split in SPLITS] == [
        "c7da2e9f9898dd90",
        "8e75882f1540e3f8",
        "a44d0ffa01573ea9",
    ]


def test_dev_and_test_rooms_are_the_ones_that_pretraining_holds_out():
    for split in SPLITS:
        for example in Sokoban().examples(split):
            room, state = read_room(example.content["room"])
            assert world.is_held_out(room) == (split != "train")
            assert world.distance_to_solved(room)[state] in range(4, 9)


def test_the_stored_rooms_are_those_of_textarenas_generator():
    record = json.loads(module.ROOMS_FILE.read_text(encoding="utf-8"))
    made = {generated_sokoban_room(seed) for seed in range(40)}
    stored = {room for split in SPLITS for room in record[split]}
    wanted = set()
    for text in made:
        room, state = read_room(text)
        if world.distance_to_solved(room)[state] in module.STEPS:
            wanted.add(text)
    # A seed in 40 may give a room whose walls and target were seen before, or a split was full.
    assert len(wanted & stored) >= len(wanted) - 2 > 8
    assert sum(record["steps_of_all_rooms"].values()) == record["seeds"]


def test_the_board_shows_what_textarena_shows_and_rubble_besides():
    rng = random.Random(1)
    symbols = {"#": MARKS["wall"], "O": MARKS["target"], "X": MARKS["box"], "√": MARKS["box"]}
    hidden = 0
    for example in Sokoban().examples("test")[:40]:
        episode = Sokoban().open(example, 0)
        rubble = {cell_of(text) for text in example.content["rubble"]}
        (target,) = read_room(example.content["room"])[0].targets
        for _ in range(8):
            rows = episode._play.game.rendered().splitlines()
            assert {*rows[0].split(), *rows[-1].split()} == {"#"}
            ours = seen(episode.messages[-1])
            for row, column in itertools.product(range(4), range(4)):
                symbol, mark = rows[row + 1].split()[column + 1], ours.things.get((row, column))
                if symbol == "P":
                    # TextArena hides what is under the player; the target is shown here.
                    assert ours.player == (row, column)
                    under = {target: MARKS["target"], **dict.fromkeys(rubble, MARKS["rubble"])}
                    assert mark == under.get((row, column))
                    hidden += (row, column) == target
                elif symbol == "_":
                    assert mark == (MARKS["rubble"] if (row, column) in rubble else None)
                else:
                    assert mark == symbols[symbol]
            if episode.step(rng.choice([UP, DOWN, LEFT, RIGHT])).done:
                break
    assert hidden > 0


def test_the_steps_of_the_world_are_textarenas_steps():
    rng = random.Random(4)
    pushes = 0
    for example in Sokoban().examples("train")[:60]:
        room, state = read_room(example.content["room"])
        game = TextArenaSokoban(4, room.walls, next(iter(room.targets)), state.box, state.player)
        for _ in range(12):
            way = rng.choice(list(DIRECTIONS))
            after, verdict = world.moved(room, state, way), game.step(way)
            assert verdict.refused == (after is None)
            pushes += after is not None and after.box != state.box
            state = after or state
            assert (game.player, game.box) == (state.player, state.box)
            assert verdict.won == (state.box in room.targets)
            if verdict.done:
                break
    assert pushes > 20


def test_the_plain_messages_leak_no_rule_in_any_turn():
    rng = random.Random(3)
    for example in Sokoban().examples("dev")[:25]:
        episode, done = Sokoban(history="full").open(example, 0), False
        while not done:
            for message in episode.messages:
                assert not set(re.findall(r"[a-z]+", message["content"].lower())) & RULE_WORDS
            done = episode.step(rng.choice([UP, DOWN, LEFT, RIGHT])).done


def test_the_context_tells_all_eight_facts():
    assert Sokoban().context().text == (
        "Rules: up y. down h. left s. right o. box is @. target is ^. wall is =. rubble is ~."
    )


def test_the_generators_own_replies_win_100_test_rooms_in_the_fewest_steps():
    rng = random.Random(0)
    for example in Sokoban().examples("test")[:100]:
        episode, done = Sokoban().open(example, 0), False
        while not done:
            board = seen(episode.messages[-1])
            done = episode.step(world.worked_reply(rng, board, SOKOBAN_WORLD)).done
        room, state = read_room(example.content["room"])
        assert episode.grade().why == f"won in {world.distance_to_solved(room)[state]} turns"


def test_a_win_and_its_feedback():
    episode = opened("____ _PX_ __O_ ____")
    for reply in (RIGHT, UP, RIGHT):
        episode.step(reply)
    episode = opened("__P_ __X_ __O_ ____")
    assert episode.step(f"down is {DOWN}.").done
    assert (episode.grade().score, episode.grade().why) == (1.0, "won in 1 turns")
    assert episode.feedback() == (
        "[h] moved you from a3 to b3. @ was pushed from b3 to c3. c3 was ^: you won."
    )
    with pytest.raises(RuntimeError, match="over"):
        episode.step(DOWN)


def test_walls_the_edge_and_a_blocked_box_refuse_and_twice_in_a_row_loses():
    episode = opened("P#__ X_O_ #___ ____")
    assert not episode.step(RIGHT).done
    assert episode.step(DOWN).done
    assert episode.grade().why == "two invalid moves in a row, the last at turn 2"
    assert episode.feedback() == (
        "[o] at a1 ran into = at a2.\n[h] at a1 could not push @ at b1.\nrefused twice: you lost."
    )
    episode = opened("P___ _XO_ ____ ____")
    dones = [episode.step(reply).done for reply in (UP, RIGHT, UP, "none")]
    assert dones == [False, False, False, True]
    assert episode.grade().score is None
    assert episode.feedback().splitlines()[0] == "[y] at a1 was refused."


def test_the_turn_limit_ends_a_game_that_goes_nowhere():
    episode = opened("P___ _XO_ ____ ____")
    dones = [episode.step(reply).done for reply in (DOWN, UP) * 6]
    assert dones == [False] * 11 + [True] and len(dones) == TURNS
    assert (episode.grade().score, episode.grade().why) == (0.0, "turn limit of 12 reached")


def test_full_history_repeats_earlier_turns():
    episode = opened("P___ _XO_ ____ ____", history="full")
    episode.step(f"so {DOWN}")
    roles = [message["role"] for message in episode.messages]
    assert roles == ["user", "assistant", "user"] and episode.messages[1]["content"] == f"so {DOWN}"
    with pytest.raises(ConfigError, match="history"):
        Sokoban(history="none")


def test_games_leave_the_global_random_state_alone():
    import numpy as np

    state, numpy_state = random.getstate(), np.random.get_state()[1].tolist()
    for example in Sokoban().examples("dev")[:3]:
        Sokoban().open(example, 0).step(DOWN)
    generated_sokoban_room(3)
    assert random.getstate() == state and np.random.get_state()[1].tolist() == numpy_state


def test_floors_agree_with_playing_every_plan_through_textarena():
    room, start = read_room("P____X____O_____")
    board = BoardGame(
        start, lambda state, way: world.moved(room, state, way), _on(room), lambda _: False
    )
    wins = 0
    for plan in itertools.product(DIRECTIONS, repeat=5):
        wins += _wins(TextArenaSokoban(4, room.walls, (2, 2), start.box, start.player), plan)
    chance, plan = floors([board], 5)
    assert wins > 0 and chance.value == pytest.approx(wins / 4**5, abs=1e-12)
    assert plan.value == 1.0


def _on(room):
    return lambda state: state.box in room.targets


def _wins(game, plan):
    for way in plan:
        verdict = game.step(way)
        if verdict.done:
            return verdict.won
    return False


def test_the_floors_of_test_are_low_and_the_ceiling_is_one():
    chance, plan = Sokoban().floors(Sokoban().examples("test"))
    assert 0.01 < chance.value < 0.02
    assert 0.1 < plan.value < 0.2
    ways = plan.how.split(": ")[1].split(";")[0].split()
    wins = 0
    for example in Sokoban().examples("test"):
        room, state = read_room(example.content["room"])
        game = TextArenaSokoban(4, room.walls, next(iter(room.targets)), state.box, state.player)
        wins += _wins(game, ways)
    assert plan.value == pytest.approx(wins / 400)
    assert Sokoban().best_possible(Sokoban().examples("test")).value == 1.0


def test_a_broken_rooms_file_says_how_to_rewrite_it(monkeypatch, tmp_path):
    broken = tmp_path / "rooms.json"
    broken.write_text('{"train": []}', encoding="utf-8")
    monkeypatch.setattr(module, "ROOMS_FILE", broken)
    with pytest.raises(DataError, match=r"python -m opcd_bench\.tasks\._sokoban_rooms"):
        module._examples.__wrapped__()
