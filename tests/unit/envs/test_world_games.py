"""The games of the built-in world: what is drawn is right, winnable, and gives nothing away."""

import functools
import itertools
import random
import re
from collections import Counter

import pytest

from opcd_bench.envs.worlds import game_world, games_reflection, lake, sokoban
from opcd_bench.envs.worlds.board import (
    DIRECTIONS,
    NEIGHBOURS,
    action_of,
    cell_of,
    direction_between,
    distances,
    random_shortest,
)
from opcd_bench.envs.worlds.conversation import Conversation
from opcd_bench.envs.worlds.game_world import (
    World,
    believed_world,
    draw_telling,
    draw_world,
    is_task_world,
)
from opcd_bench.envs.worlds.reflection import ITEM, lessons_of

SENTENCE = re.compile(r"\b(\w+)(?: is (\W)| (\w))\.")
RULE_WORDS = set("hole goal rubble box target wall up down left right is push".split())


def told_facts(conversation: Conversation) -> dict[str, str]:
    """Role or direction -> mark or letter, from the system message."""
    if conversation.messages[0]["role"] != "system":
        return {}
    found = SENTENCE.findall(conversation.messages[0]["content"])
    return {key: mark or letter for key, mark, letter in found}


def board_in(conversation: Conversation) -> tuple[tuple[int, int], dict[tuple[int, int], str]]:
    """The player's cell, and the other marks by cell, read off the last user message."""
    pairs = re.findall(r" (\S) ([a-d][1-4])", conversation.messages[-1]["content"])
    things = {cell_of(cell): mark for mark, cell in pairs if mark not in "P_"}
    return next(cell_of(cell) for mark, cell in pairs if mark == "P"), things


def letters_in(conversation: Conversation) -> list[str]:
    return re.findall(r"\[(\w)\]", conversation.messages[-1]["content"].split("Actions:")[1])


def drawn(module, seed: int, count: int) -> list[Conversation]:
    rng = random.Random(seed)
    return [module.draw(rng) for _ in range(count)]


def test_one_seed_draws_the_same_conversations_twice_and_leaves_the_global_generator_alone():
    before = random.getstate()
    for module in (lake, sokoban, games_reflection):
        assert drawn(module, 3, 20) == drawn(module, 3, 20)
        assert drawn(module, 3, 5) != drawn(module, 4, 5)
    assert random.getstate() == before


def test_a_lakes_reply_reads_the_board_goes_a_shortest_way_and_takes_its_first_step():
    for conversation in drawn(lake, 11, 150):
        facts, (player, things) = told_facts(conversation), board_in(conversation)
        found = re.fullmatch(
            r"P (\w\d)\. (\w+) is (\S) ([^.]+)\. (\w+) is (\S) ([^.]+)\. "
            r"path ([a-d1-4 ]+)\. (\w\d) (\w\d) is (\w+)\. (\w+) (\w) \[(\w)\]\.",
            conversation.reply,
        )
        assert found, conversation.reply
        at, role_1, mark_1, cells_1, role_2, mark_2, cells_2, path, *step = found.groups()
        said = {role_1: (mark_1, cells_1), role_2: (mark_2, cells_2)}
        assert cell_of(at) == player
        for role, (mark, cells) in said.items():
            assert facts.get(role, mark) == mark
            listed = [] if cells == "none" else [cell_of(at) for at in cells.split(f" {mark} ")]
            assert listed == sorted(cell for cell in things if things[cell] == mark)
        goals = {cell for cell in things if things[cell] == said["goal"][0]}
        holes = {cell for cell in things if things[cell] == said["hole"][0]}
        way = [cell_of(text) for text in path.split()]
        assert way[0] == player and way[-1] in goals and not holes & set(way)
        assert all(after in NEIGHBOURS[before] for before, after in itertools.pairwise(way))
        far = lake.distance_to_goal(frozenset(holes), frozenset(way[-1:]))
        assert len(way) - 1 == far[player]
        before, after, direction, again, letter, action = step
        assert action == letter
        assert [cell_of(before), cell_of(after)] == way[:2]
        assert direction == again == direction_between(way[0], way[1])
        assert facts.get(direction, letter) == letter
        assert action_of(conversation.reply, letters_in(conversation)) == letter


def test_a_rooms_reply_comes_one_step_nearer_to_the_solution_by_the_told_rules():
    whole = 0
    for conversation in drawn(sokoban, 5, 150):
        facts, (player, things) = told_facts(conversation), board_in(conversation)
        reply = conversation.reply
        assert reply.startswith("P ")
        said = dict(re.findall(r"(box|target|wall) is (\S) ", reply))
        cells = {role: {c for c in things if things[c] == mark} for role, mark in said.items()}
        assert all(facts.get(role, mark) == mark for role, mark in said.items())
        (box,) = cells["box"]
        room = sokoban.Room(frozenset(cells["wall"]), frozenset(cells["target"]))
        state = sokoban.State(player, box)
        far = sokoban.distance_to_solved(room)
        step = re.search(r"(\w\d) (\w\d) is (\w+)\. (\w+) (\w) \[(\w)\]\.$", reply)
        push = re.search(r"push ([a-d1-4 ]+) from (\w\d)\. walk ([a-d1-4 ]+)\.", reply)
        assert step and push
        after = sokoban.moved(room, state, step[3])
        assert after is not None and far[after] == far[state] - 1
        assert facts.get(step[3], step[5]) == step[5]
        boxes, walk = push[1].split(), push[3].split()
        assert cell_of(boxes[0]) == box and cell_of(boxes[-1]) in room.targets
        assert walk[0] == step[1] and walk[1] == step[2]
        assert walk[-1] == boxes[0] and walk[-2] == push[2]
        whole += len(facts) == 8
    assert whole > 75


def test_shares_of_told_partly_told_and_plain_are_as_documented():
    rng, total = random.Random(1), 4000
    for module in (lake, sokoban):
        facts = len(module.ROLES) + 4
        world = draw_world(rng, module.ROLES)
        told = Counter(len(draw_telling(rng, world).known) for _ in range(total))
        assert abs(told[0] / total - 0.18) < 0.02
        assert abs(told[facts] / total - 0.70) < 0.025


def test_the_plain_message_holds_no_word_of_the_rules():
    for module in (lake, sokoban):
        for conversation in drawn(module, 2, 100):
            words = set(re.findall(r"[A-Za-z]+", conversation.messages[-1]["content"]))
            assert not words & RULE_WORDS
            assert letters_in(conversation) == sorted(letters_in(conversation))


def test_a_tasks_world_is_never_drawn(monkeypatch):
    # Few marks and letters, so that one draw in six and one in 24 would meet the task's.
    monkeypatch.setattr(game_world, "MARKS", ("&", "%", "+"))
    monkeypatch.setattr(game_world, "CONTROLS", tuple(game_world.LAKE_WORLD.controls.values()))
    rng = random.Random(0)
    worlds = [draw_world(rng, lake.ROLES) for _ in range(600)]
    assert not any(is_task_world(world) for world in worlds)
    met = {(world.marks["hole"], world.marks["goal"]) for world in worlds}
    assert met == {(a, b) for a in "&%+" for b in "&%+" if a != b} - {("&", "%")}
    assert len({tuple(world.controls.items()) for world in worlds}) == 23
    fits_all = [believed_world(rng, world, (), lambda guess: True) for world in worlds]
    assert not any(is_task_world(belief) for belief in fits_all)


def test_a_tasks_marks_or_controls_alone_make_a_world_the_tasks():
    task = game_world.SOKOBAN_WORLD
    other = dict(zip(DIRECTIONS, "gjkm", strict=True))
    marks = dict(zip(sokoban.ROLES, "#*+$", strict=True))
    assert is_task_world(World(task.marks, other)) and is_task_world(World(marks, task.controls))
    assert is_task_world(World({**task.marks, "rubble": "#"}, other))
    assert not is_task_world(World(marks, other))


def test_held_out_maps_and_rooms_are_never_drawn():
    rng = random.Random(6)
    for _ in range(300):
        world = draw_world(rng, lake.ROLES)
        found = lake.draw_lake(rng, world)
        holes, goals = found.cells(world.marks["hole"]), found.cells(world.marks["goal"])
        assert not lake.is_held_out(frozenset(holes), frozenset(goals))
        assert not sokoban.is_held_out(sokoban.draw_room(rng))


def test_a_player_who_is_told_nothing_knows_no_more_than_chance():
    rng = random.Random(8)
    counts: Counter[str] = Counter()
    total = 3000
    for _ in range(total):
        world = draw_world(rng, lake.ROLES)
        board = lake.draw_lake(rng, world)
        belief = believed_world(rng, world, (), functools.partial(lake.is_winnable, board))
        counts["goal"] += belief.marks["goal"] == world.marks["goal"]
        counts["controls"] += belief.controls == world.controls
        counts["up"] += belief.controls["up"] == world.controls["up"]
    assert abs(counts["controls"] / total - 1 / 24) < 0.012
    assert abs(counts["up"] / total - 1 / 4) < 0.025
    # Some beliefs cannot be won, so the truth is met somewhat more often than one time in three.
    assert counts["goal"] / total < 0.5


def test_what_is_told_in_part_is_believed_and_the_rest_is_guessed():
    rng = random.Random(9)
    world = draw_world(rng, lake.ROLES)
    beliefs = [believed_world(rng, world, {"goal", "up"}, lambda guess: True) for _ in range(200)]
    assert {b.marks["goal"] for b in beliefs} == {world.marks["goal"]}
    assert {b.controls["up"] for b in beliefs} == {world.controls["up"]}
    assert len({b.marks["hole"] for b in beliefs}) == 2
    assert len({b.controls["down"] for b in beliefs}) == 3


def test_shortest_paths_are_drawn_uniformly():
    far = distances([(1, 2)], lambda cell: NEIGHBOURS[cell])
    rng = random.Random(0)
    paths = Counter(
        tuple(random_shortest(rng, (0, 0), far, lambda cell: NEIGHBOURS[cell])) for _ in range(3000)
    )
    assert len(paths) == 3
    assert all(abs(count / 3000 - 1 / 3) < 0.04 for count in paths.values())


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("down [q].", "q"),
        ("[q] or [x]", "x"),
        ("[x] then [w]", "x"),
        ("[ q ]", "q"),
        ("q", None),
        ("[w]", None),
        ("", None),
    ],
)
def test_the_last_allowed_action_in_brackets_is_the_action(reply, letter):
    assert action_of(reply, "qx") == letter


def test_a_reflections_lessons_are_what_its_feedback_shows_in_the_contexts_words():
    ended = Counter()
    for conversation in drawn(games_reflection, 4, 200):
        (message,) = conversation.messages
        feedback = message["content"].split("\nFEEDBACK\n")[1]
        lessons = lessons_of(conversation.reply)
        assert lessons and len(lessons) == len(set(lessons))
        assert conversation.reply == "\n".join(f"{ITEM} {lesson}" for lesson in lessons)
        shown = set()
        taken = re.findall(r"\[(\w)\] moved you from (\w\d) to (\w\d)", feedback)
        stopped = re.findall(
            r"\[(\w)\] at (\w\d) (?:could not push|ran into) \S at (\w\d)", feedback
        )
        for letter, before, after in taken + stopped:
            way = direction_between(cell_of(before), cell_of(after))
            shown.add(f"{way} {letter}.")
        for pattern, role in (
            (r"was (\S): you fell", "hole"),
            (r"was (\S): nothing", "rubble"),
            (r"(\S) was pushed from", "box"),
            (r"could not push (\S) at", "box"),
            (r"ran into (\S) at", "wall"),
            (r"was (\S): you won", "goal" if "lake" in conversation.kind else "target"),
        ):
            shown |= {f"{role} is {mark}." for mark in re.findall(pattern, feedback)}
        assert set(lessons) == shown, feedback
        ended["won"] += "you won" in feedback
        ended["lost"] += "lost" in feedback
    assert ended["won"] > 20 and ended["lost"] > 10
