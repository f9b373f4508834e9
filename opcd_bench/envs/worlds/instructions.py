"""The world's writing requests under IFEval's own instructions, some combinations held out.

Instruction ids and arguments are those of IFEval (arXiv 2311.07911) as lm-eval registers them. Left
out, because their checkers need NLTK's punkt data, which is a download: ``number_sentences`` and
``capital_word_frequency``. Left out for the small vocabulary's sake: ``english_capital`` (every
word twice in it), ``letter_frequency`` (letters are inside tokens), ``response_language``.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from opcd_bench.envs.worlds.conversation import Conversation
from opcd_bench.envs.worlds.text import ADJECTIVES, TOPICS, Topic
from opcd_bench.envs.worlds.writing import FIRST_WORDS, Ask, write
from opcd_bench.seeds import seed_of

REQUESTS = (
    "Write about the {n}.",
    "Tell me about the {n}.",
    "Write a short text about the {n}.",
    "Describe the {n}.",
)
END_PHRASES = ("That is all.", "Thank you.", "Have a good day.", "Is that clear?", "See you soon.")
_NOUNS = tuple(topic.noun for topic in TOPICS)


@dataclass(frozen=True)
class Kind:
    """An instruction type: how its arguments are drawn, and how it is asked for."""

    id: str
    arguments: Callable[[random.Random, Topic, str], dict[str, Any]]
    phrases: tuple[str, ...]
    counts: bool = False
    """Whether obeying takes counting, which is what a small model finds hard."""


def _nothing(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
    return {}


def _one_of(key: str, values: tuple[Any, ...]) -> Callable[..., dict[str, Any]]:
    def draw_one(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
        return {key: rng.choice(values)}

    return draw_one


def _keywords(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
    words = [*ADJECTIVES, *(noun for noun in _NOUNS if noun != topic.noun)]
    return {"keywords": sorted(rng.sample(words, rng.choice((1, 2))))}


def _forbidden(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
    words = [*topic.adjectives, *topic.verbs, "it", "we"]
    return {"forbidden_words": sorted(rng.sample(words, rng.choice((1, 2))))}


def _frequency(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
    keyword = topic.noun if rng.random() < 0.6 else rng.choice(ADJECTIVES)
    if rng.random() < 0.2:
        return {"keyword": topic.noun, "frequency": rng.choice((2, 3)), "relation": "less than"}
    return {"keyword": keyword, "frequency": rng.choice((2, 3, 4)), "relation": "at least"}


def _words(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
    if rng.random() < 0.35:
        return {"num_words": rng.choice((8, 10, 12)), "relation": "less than"}
    return {"num_words": rng.choice((15, 20, 25, 30)), "relation": "at least"}


def _nth_paragraph(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
    number = rng.choice((2, 3, 4))
    return {
        "num_paragraphs": number,
        "nth_paragraph": rng.randint(1, number),
        "first_word": rng.choice(FIRST_WORDS),
    }


def _sections(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
    return {"section_spliter": rng.choice(("Section", "Part")), "num_sections": rng.randint(2, 4)}


def _repeat(rng: random.Random, topic: Topic, request: str) -> dict[str, Any]:
    return {"prompt_to_repeat": request}


KINDS = (
    Kind(
        "punctuation:no_comma",
        _nothing,
        ("Do not use any commas.", "Use no commas.", "Write it without commas."),
    ),
    Kind(
        "change_case:english_lowercase",
        _nothing,
        ("Use only lowercase letters.", "Write all in lowercase.", "Do not use capital letters."),
    ),
    Kind(
        "startend:end_checker",
        _one_of("end_phrase", END_PHRASES),
        ("End with: {end_phrase}", "The last words must be: {end_phrase}"),
    ),
    Kind(
        "startend:quotation",
        _nothing,
        ("Put the whole reply in quotation marks.", "Wrap your reply in quotation marks."),
    ),
    Kind(
        "keywords:existence",
        _keywords,
        ("Include the {words}.", "Use the {words}."),
    ),
    Kind(
        "keywords:forbidden_words",
        _forbidden,
        ("Do not use the {words}.", "Write it without the {words}."),
    ),
    Kind(
        "keywords:frequency",
        _frequency,
        (
            "Use the word {keyword} {relation} {frequency} times.",
            "The word {keyword} must be there {relation} {frequency} times.",
        ),
        counts=True,
    ),
    Kind(
        "length_constraints:number_words",
        _words,
        ("Use {relation} {num_words} words.", "Write {relation} {num_words} words."),
        counts=True,
    ),
    Kind(
        "length_constraints:number_paragraphs",
        _one_of("num_paragraphs", (2, 3, 4)),
        (
            "Write {num_paragraphs} paragraphs with *** between them.",
            "Use *** to make {num_paragraphs} paragraphs.",
        ),
        counts=True,
    ),
    Kind(
        "length_constraints:nth_paragraph_first_word",
        _nth_paragraph,
        (
            "Write {num_paragraphs} paragraphs with an empty line between them. "
            "Paragraph {nth_paragraph} must start with the word {first_word}.",
        ),
        counts=True,
    ),
    Kind(
        "detectable_format:number_bullet_lists",
        _one_of("num_bullets", (2, 3, 4, 5)),
        (
            "Use exactly {num_bullets} bullet points.",
            "Write it as {num_bullets} bullet points.",
            "Give {num_bullets} bullet points.",
        ),
        counts=True,
    ),
    Kind(
        "detectable_format:multiple_sections",
        _sections,
        (
            "Write {num_sections} sections, each with the mark {section_spliter} and a number.",
            "Use {num_sections} sections and mark each one: {section_spliter} 1.",
        ),
        counts=True,
    ),
    Kind(
        "detectable_format:number_highlighted_sections",
        _one_of("num_highlights", (1, 2, 3)),
        (
            "Highlight at least {num_highlights} words like *this*.",
            "Put stars like *this* around at least {num_highlights} words.",
        ),
        counts=True,
    ),
    Kind(
        "detectable_format:title",
        _nothing,
        ("Give it a title like <<title>>.", "Start with a title in <<title>> marks."),
    ),
    Kind(
        "detectable_format:json_format",
        _nothing,
        ("Write it in JSON format.", "Wrap the whole reply in JSON."),
    ),
    Kind(
        "detectable_format:constrained_response",
        _nothing,
        (
            "Answer with one of these: My answer is yes. My answer is no. My answer is maybe.",
            "Choose one: My answer is yes. My answer is no. My answer is maybe.",
        ),
    ),
    Kind(
        "detectable_content:postscript",
        _one_of("postscript_marker", ("P.S.", "P.S.", "P.P.S")),
        (
            "Add a postscript with {postscript_marker} at the end.",
            "Add a {postscript_marker} line.",
        ),
    ),
    Kind(
        "detectable_content:number_placeholders",
        _one_of("num_placeholders", (1, 2, 3)),
        (
            "Use at least {num_placeholders} placeholders like [name].",
            "Put in at least {num_placeholders} placeholders like [day].",
        ),
        counts=True,
    ),
    Kind(
        "combination:two_responses", _nothing, ("Give two different replies with ****** between.",)
    ),
    Kind(
        "combination:repeat_prompt",
        _repeat,
        ("First repeat the request word for word.", "Repeat the request first, then answer."),
    ),
)
BY_ID: Mapping[str, Kind] = {kind.id: kind for kind in KINDS}

_LAYOUTS = frozenset(
    {
        "length_constraints:number_paragraphs",
        "length_constraints:nth_paragraph_first_word",
        "detectable_format:number_bullet_lists",
        "detectable_format:multiple_sections",
        "detectable_format:json_format",
        "combination:two_responses",
    }
)
_ONLY_WITH: Mapping[str, frozenset[str]] = {
    "detectable_format:constrained_response": frozenset(),
    "detectable_format:json_format": frozenset({"keywords:existence", "keywords:forbidden_words"}),
    "combination:two_responses": frozenset(
        {
            "keywords:existence",
            "keywords:forbidden_words",
            "detectable_format:title",
            "punctuation:no_comma",
        }
    ),
    "combination:repeat_prompt": frozenset(
        {"keywords:existence", "detectable_format:title", "punctuation:no_comma"}
    ),
}
_NOT_WITH = frozenset(
    frozenset(pair)
    for pair in (
        ("startend:quotation", "detectable_format:title"),
        ("detectable_format:multiple_sections", "detectable_format:number_highlighted_sections"),
        ("detectable_format:multiple_sections", "change_case:english_lowercase"),
        ("length_constraints:nth_paragraph_first_word", "detectable_format:title"),
    )
)


def compatible(one: str, other: str) -> bool:
    """Whether two types may be asked together: IFEval's own conflicts, and one layout a reply."""
    if one == other or {one, other} <= _LAYOUTS or frozenset((one, other)) in _NOT_WITH:
        return False
    return all(
        second in _ONLY_WITH.get(first, BY_ID) for first, second in ((one, other), (other, one))
    )


PAIRS = tuple(
    (one.id, other.id) for one, other in combinations(KINDS, 2) if compatible(one.id, other.id)
)


@functools.cache
def held_out_topic(kind: str, noun: str) -> bool:
    """Whether pre-training never asks for this type of instruction about this topic (one in 5)."""
    return seed_of("ifeval_micro", "topic", kind, noun) % 5 == 0


@functools.cache
def held_out_pair(one: str, other: str) -> bool:
    """Whether pre-training never asks for these two types together (about one in four)."""
    first, second = sorted((one, other))
    return seed_of("ifeval_micro", "pair", first, second) % 4 == 0


def _say(rng: random.Random, kind: Kind, kwargs: Mapping[str, Any]) -> str:
    words = kwargs.get("keywords") or kwargs.get("forbidden_words") or ()
    listed = ("word " if len(words) == 1 else "words ") + " and ".join(words)
    said = rng.choice(kind.phrases).format(words=listed, **kwargs)
    return said.replace(" 1 words", " 1 word").replace(" 1 placeholders", " 1 placeholder")


def ask_for(rng: random.Random, topic: Topic, kinds: tuple[str, ...]) -> tuple[str, list[Ask], str]:
    """A request about ``topic`` under instructions of ``kinds``, and a reply that obeys them all.

    Returns the request, the instructions in the order in which they are asked, and the reply.
    """
    while True:
        request = rng.choice(REQUESTS).format(n=topic.noun)
        if "detectable_format:constrained_response" in kinds:
            word = rng.choice(topic.adjectives if rng.random() < 0.5 else ADJECTIVES)
            request = f"Is the {topic.noun} {word}?"
        asks = []
        for name in kinds:
            kwargs = BY_ID[name].arguments(rng, topic, request)
            asks.append(Ask(name, kwargs, _say(rng, BY_ID[name], kwargs)))
        rng.shuffle(asks)
        reply = write(rng, topic, request, asks)
        if reply is not None:
            return request, asks, reply


def prompt_of(request: str, asks: list[Ask]) -> str:
    """The user's message: the request, then each instruction in its words."""
    return " ".join((request, *(ask.words for ask in asks)))


def draw(rng: random.Random) -> Conversation:
    """A request about a topic under no, one or two instructions, never a held-out combination."""
    number = rng.choices((0, 1, 2), weights=(1, 8, 11))[0]
    while True:
        topic = rng.choice(TOPICS)
        kinds: tuple[str, ...] = ()
        if number == 1:
            kinds = (rng.choice(KINDS).id,)
        elif number == 2:
            kinds = rng.choice(PAIRS)
            if held_out_pair(*kinds):
                continue
        if not any(held_out_topic(kind, topic.noun) for kind in kinds):
            break
    request, asks, reply = ask_for(rng, topic, kinds)
    user = {"role": "user", "content": prompt_of(request, asks)}
    return Conversation("instructions", (user,), reply)
