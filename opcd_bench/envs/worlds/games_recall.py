"""Look-ups in a game's context: a direction or a role is asked, its sentence is the answer."""

from __future__ import annotations

import random

from opcd_bench.envs.worlds import lake
from opcd_bench.envs.worlds.board import DIRECTIONS
from opcd_bench.envs.worlds.conversation import Conversation, Message
from opcd_bench.envs.worlds.game_world import World, draw_world, told, told_as_items

ROLES = (("hole", "goal", "rubble"), ("box", "target", "wall", "rubble"))


def draw(rng: random.Random) -> Conversation:
    """The four directions in any order, and a role: the look-up with which every move ends."""
    return _asked(rng, draw_world(rng, rng.choice(ROLES)), "")


def draw_on_board(rng: random.Random) -> Conversation:
    """The same behind a lake's board and actions, as far from the rules as a move is."""
    world = draw_world(rng, lake.ROLES)
    board = lake.draw_lake(rng, world)
    return _asked(rng, world, lake.messages(board, world)[0]["content"] + "\n")


def _asked(rng: random.Random, world: World, before: str) -> Conversation:
    asked = [*DIRECTIONS, rng.choice(tuple(world.marks))]
    rng.shuffle(asked)
    sentences = {sentence.split(" ", 1)[0]: sentence for sentence in world.sentences()}
    facts = list(sentences.values())
    rng.shuffle(facts)
    context = told(facts) if rng.random() < 0.7 else told_as_items(facts)
    messages: tuple[Message, ...] = (
        {"role": "system", "content": context},
        {"role": "user", "content": f"{before}Say the rules of {' '.join(asked)}"},
    )
    return Conversation("games_recall", messages, " ".join(sentences[word] for word in asked))
