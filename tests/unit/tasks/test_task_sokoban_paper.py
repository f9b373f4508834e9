"""The paper's Sokoban as a task: TextArena's rooms of any length, five turns."""

import json
import re

import pytest
from opcd_bench.tasks import sokoban_paper as module
from opcd_bench.tasks._rooms import read_room
from opcd_bench.tasks.sokoban_paper import SIZES, SokobanPaper

from opcd_bench.envs.task import SPLITS, Example, assert_disjoint
from opcd_bench.envs.textarena import SokobanGame as TextArenaSokoban
from opcd_bench.envs.textarena import generated_sokoban_room
from opcd_bench.envs.worlds import sokoban as world

RULE_WORDS = set("box target wall push pull solve goal win won lose lost refused invalid".split())


def opened(text, history="last"):
    return SokobanPaper(history).open(Example({"room": text.replace(" ", "")}), 0)


def rooms(split):
    return [read_room(one.content["room"]) for one in SokobanPaper().examples(split)]


def test_no_board_is_there_twice_and_no_two_splits_share_walls_and_target():
    task = SokobanPaper()
    assert_disjoint(task)
    assert [len(task.examples(split)) for split in SPLITS] == [1000, 128, 256]
    train, dev, test = ({room for room, _ in rooms(split)} for split in SPLITS)
    assert not train & dev and not train & test and not dev & test
    assert [task.examples(split)[0].id for split in SPLITS] == [
        "8f188851edb7e48b",
        "0e88944cfe317edd",
        "48f7454454c8ff28",
    ]


def test_the_stored_rooms_are_textarena_s_whatever_steps_they_take():
    record = json.loads(module.ROOMS_FILE.read_text(encoding="utf-8"))
    made = {generated_sokoban_room(seed) for seed in range(30)}
    assert made <= {text for split in SPLITS for text in record[split]}
    assert sum(record["steps_of_all_rooms"].values()) == record["seeds"]
    assert {split: len(record[split]) for split in SIZES} == dict(SIZES)
    steps = {world.distance_to_solved(room)[state] for room, state in rooms("test")}
    assert {1, 2, 4, 5, 6, 7, 8} <= steps


def test_the_prompt_is_textarena_s_drawing_and_tells_no_rule():
    episode = opened("____ _PX_ __O_ #___")
    content = episode.messages[0]["content"]
    board = "# # # # # #\n# _ _ _ _ #\n# _ P X _ #\n# _ _ O _ #\n# # _ _ _ #\n# # # # # #"
    assert content.split("\n\n")[2] == board == episode._play.game.rendered().strip()
    assert not set(re.findall(r"[a-z]+", content.lower())) & RULE_WORDS
    (told,) = SokobanPaper().context().tell(episode.messages)
    role, situation = content.split("\n\n", 1)
    assert told["content"] == f"{role}\n\n{SokobanPaper().context().text}\n\n{situation}"


def test_pushing_the_box_onto_the_target_wins():
    episode = opened("____ __P_ __X_ __O_")
    assert episode.step("I go [S].").done
    assert (episode.grade().score, episode.grade().why) == (1.0, "won in 1 turns")
    assert episode.feedback() == (
        "[s] moved P from row 3, column 4 to row 4, column 4. X was pushed to row 5, column 4. "
        "O was there: the game is won."
    )


def test_a_push_elsewhere_and_a_refused_step_are_said():
    episode = opened("#___ _PX_ __O_ ____")
    for reply in ("[right]", "[d]", "[up]"):
        assert not episode.step(reply).done
    assert episode.feedback().splitlines() == [
        "[right] moved P from row 3, column 3 to row 3, column 4. X was pushed to row 3, column 5.",
        "[d] was refused: P stayed at row 3, column 4.",
        "[up] moved P from row 3, column 4 to row 2, column 4.",
    ]


def test_two_refused_steps_in_a_row_lose_and_five_turns_are_all():
    episode = opened("P#__ X_O_ #___ ____")
    assert [episode.step(reply).done for reply in ("[right]", "[down]")] == [False, True]
    assert episode.grade().why == "two invalid moves in a row, the last at turn 2"
    episode = opened("P___ _XO_ ____ ____")
    dones = [episode.step(reply).done for reply in ("[down]", "[up]", "[down]", "[up]", "[down]")]
    assert dones == [False] * 4 + [True]
    assert (episode.grade().score, episode.grade().why) == (0.0, "turn limit of 5 reached")


def test_floors_and_ceiling_are_what_textarena_makes_of_them():
    task = SokobanPaper()
    chance, plan = task.floors(task.examples("test"))
    ways = re.search(r"board: ([a-z ]+);", plan.how)[1].split()
    wins = 0
    for room, start in rooms("test"):
        game = TextArenaSokoban(4, room.walls, next(iter(room.targets)), start.box, start.player)
        for way in ways:
            verdict = game.step(way)
            if verdict.done:
                wins += verdict.won
                break
    assert plan.value == pytest.approx(wins / 256) == pytest.approx(0.234375)
    assert 0.10 < chance.value < 0.14
    solvable = sum(world.distance_to_solved(room)[state] <= 5 for room, state in rooms("test"))
    assert task.best_possible(task.examples("test")).value == pytest.approx(solvable / 256)
    assert 0.8 < solvable / 256 < 0.9
