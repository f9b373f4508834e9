"""Look-ups in a game's context: a direction or a role is asked, its sentence is the answer."""

from __future__ import annotations

import random

from opcd_bench.micro.world.board import DIRECTIONS
from opcd_bench.micro.world.conversation import Conversation, Message
from opcd_bench.micro.world.game_world import draw_world, told, told_as_items

ROLES = (("hole", "goal", "rubble"), ("box", "target", "wall", "rubble"))


def draw(rng: random.Random) -> Conversation:
    """The four directions in any order, and a role: the look-up with which every move ends."""
    world = draw_world(rng, rng.choice(ROLES))
    asked = [*DIRECTIONS, rng.choice(tuple(world.marks))]
    rng.shuffle(asked)
    sentences = {sentence.split(" ", 1)[0]: sentence for sentence in world.sentences()}
    facts = list(sentences.values())
    rng.shuffle(facts)
    context = told(facts) if rng.random() < 0.7 else told_as_items(facts)
    messages: tuple[Message, ...] = (
        {"role": "system", "content": context},
        {"role": "user", "content": f"Say the rules of {' '.join(asked)}"},
    )
    return Conversation("games_recall", messages, " ".join(sentences[word] for word in asked))
