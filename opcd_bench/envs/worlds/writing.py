"""Writes a reply about a topic that obeys every instruction asked of it, in one of many ways."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opcd_bench.envs.worlds import text
from opcd_bench.envs.worlds.text import ADJECTIVES, Topic

ADJECTIVE_CARRIERS = ("It is {k}.", "The {n} is {k}.", "People say it is {k}.", "It can be {k}.")
NOUN_CARRIERS = (
    "It is near the {k}.",
    "The {n} is near the {k}.",
    "I like the {k} too.",
    "You can see the {k} too.",
)
FIRST_WORDS = ("today", "now", "here", "often", "then")
FIRST_WORD_FORMS = (
    "{w} the {n} is {a}.",
    "{w} we {v} the {n}.",
    "{w} it is {a}.",
    "{w} we {v} it.",
)
PLACEHOLDERS = (
    ("name", ("[name] likes the {n}.", "Ask [name] about it.")),
    ("place", ("Come to [place].", "You can find it in [place].")),
    ("day", ("See you on [day].", "We see it on [day].")),
    ("time", ("Come at [time].", "We see it at [time].")),
)
MOST_WORDS = 48
TITLES = ("<<The {n}>>", "<<About the {n}>>")


@dataclass(frozen=True)
class Ask:
    """One instruction: IFEval's id, its arguments, and the words in which it is asked."""

    id: str
    kwargs: Mapping[str, Any]
    words: str


def count_words(reply: str) -> int:
    """Words as IFEval counts them: runs of letters, digits and underscores."""
    return len(re.findall(r"\w+", reply))


def write(rng: random.Random, topic: Topic, request: str, asks: Sequence[Ask]) -> str | None:
    """A reply that obeys all ``asks``, or None where no try of sixty does."""
    for _ in range(60):
        reply = _attempt(rng, topic, request, {ask.id: ask.kwargs for ask in asks})
        if count_words(reply) <= MOST_WORDS and all(_counts_hold(ask, reply) for ask in asks):
            return reply
    return None


def _counts_hold(ask: Ask, reply: str) -> bool:
    """What an attempt may miss by chance; everything else is built in."""
    kwargs = ask.kwargs
    if ask.id == "length_constraints:number_words":
        enough = count_words(reply) >= kwargs["num_words"]
        return bool(enough == (kwargs["relation"] == "at least"))
    if ask.id == "keywords:frequency":
        enough = reply.lower().count(kwargs["keyword"]) >= kwargs["frequency"]
        return bool(enough == (kwargs["relation"] == "at least"))
    if ask.id == "keywords:forbidden_words":
        words = re.findall(r"\w+", reply.lower())
        return not set(words) & set(kwargs["forbidden_words"])
    if ask.id == "detectable_format:number_highlighted_sections":
        return len(re.findall(r"\*[^*\n]+\*", reply)) >= int(kwargs["num_highlights"])
    if ask.id == "change_case:english_lowercase":
        # The checker also asks langdetect for English, which it misses in too plain a text.
        return "you can" in reply or "people say" in reply
    if ask.id == "combination:two_responses":
        one, other = reply.split("******")
        return one.strip() != other.strip()
    return True


def _carrier(rng: random.Random, topic: Topic, word: str) -> str:
    """A sentence that has ``word``: an adjective, the topic's noun or another noun."""
    if word == topic.noun:
        return text.sentence(rng, topic, opening=True, commas=False)
    forms = ADJECTIVE_CARRIERS if word in ADJECTIVES else NOUN_CARRIERS
    return rng.choice(forms).format(k=word, n=topic.noun)


def _required(
    rng: random.Random, topic: Topic, asked: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """The sentences that keywords, their counts and placeholders call for, in random order."""
    sentences: list[str] = []
    for word in asked.get("keywords:existence", {}).get("keywords", ()):
        sentences.append(_carrier(rng, topic, word))
    frequency = asked.get("keywords:frequency")
    if frequency and frequency["relation"] == "at least":
        wanted = frequency["frequency"] + (rng.random() < 0.15)
        sentences += [_carrier(rng, topic, frequency["keyword"]) for _ in range(wanted)]
    holders = asked.get("detectable_content:number_placeholders")
    if holders:
        chosen = rng.sample(PLACEHOLDERS, holders["num_placeholders"])
        sentences += [rng.choice(forms).format(n=topic.noun) for _, forms in chosen]
    rng.shuffle(sentences)
    return sentences


def _attempt(
    rng: random.Random, topic: Topic, request: str, asked: Mapping[str, Mapping[str, Any]]
) -> str:
    if "detectable_format:constrained_response" in asked:
        return _yes_or_no(rng, topic, request)
    commas = "punctuation:no_comma" not in asked
    words = asked.get("length_constraints:number_words")
    least = words["num_words"] if words and words["relation"] == "at least" else 0
    brief = words is not None and not least
    slots = _slots(rng, topic, asked, commas=commas, brief=brief)
    for sentence in _required(rng, topic, asked):
        rng.choice(slots).append(sentence)
    highlights = asked.get("detectable_format:number_highlighted_sections")
    marked = highlights["num_highlights"] if highlights else 0
    while sum(map(len, slots)) < marked:
        _lengthen(rng, topic, slots, commas)
    while least and sum(count_words(s) for slot in slots for s in slot) < least:
        _lengthen(rng, topic, slots, commas)
    _drop_repeats(slots)
    if marked:
        every = [(i, j) for i, slot in enumerate(slots) for j in range(len(slot))]
        for i, j in rng.sample(every, min(marked, len(every))):
            slots[i][j] = re.sub(r"([\w\[\]]+)\.$", r"*\1*.", slots[i][j])
    return _decorate(rng, topic, request, asked, _lay_out(topic, asked, slots))


def _lengthen(rng: random.Random, topic: Topic, slots: list[list[str]], commas: bool) -> None:
    shortest = min(slots, key=len)
    shortest.append(text.sentence(rng, topic, opening=False, commas=commas))


def _drop_repeats(slots: list[list[str]]) -> None:
    """Say nothing twice in one slot; a slot is never emptied."""
    for slot in slots:
        slot[:] = list(dict.fromkeys(slot))


def _slots(
    rng: random.Random,
    topic: Topic,
    asked: Mapping[str, Mapping[str, Any]],
    *,
    commas: bool,
    brief: bool,
) -> list[list[str]]:
    """Sentences for each part of the layout, at least one a part; the first one names the topic."""
    parts, longest = 1, 3
    for name, key in _PART_COUNTS.items():
        if name in asked:
            parts, longest = asked[name][key], 2
    if "combination:two_responses" in asked:
        parts, longest = 2, 2
    if "detectable_format:number_bullet_lists" in asked:
        longest = 1
    needs = {"keywords:existence", "keywords:frequency", "detectable_content:number_placeholders"}
    slots = []
    for part in range(parts):
        if brief:
            slots.append([text.short_sentence(rng, topic) for _ in range(rng.choice((1, 1, 2)))])
            continue
        opening = part == 0 and rng.random() < 0.85
        slot = [text.sentence(rng, topic, opening=opening, commas=commas)]
        fewest = 2 if parts == 1 and not needs & asked.keys() else 1
        for _ in range(rng.randint(fewest, max(fewest, longest)) - 1):
            slot.append(text.sentence(rng, topic, opening=False, commas=commas))
        slots.append(slot)
    nth = asked.get("length_constraints:nth_paragraph_first_word")
    if nth:
        word = nth["first_word"].capitalize()
        form = rng.choice(FIRST_WORD_FORMS).replace("{w}", word)
        slots[nth["nth_paragraph"] - 1][0] = text.fill(rng, topic, form)
    return slots


_PART_COUNTS = {
    "detectable_format:number_bullet_lists": "num_bullets",
    "length_constraints:number_paragraphs": "num_paragraphs",
    "detectable_format:multiple_sections": "num_sections",
    "length_constraints:nth_paragraph_first_word": "num_paragraphs",
}


def _lay_out(topic: Topic, asked: Mapping[str, Mapping[str, Any]], slots: list[list[str]]) -> str:
    parts = [" ".join(slot) for slot in slots]
    if "detectable_format:number_bullet_lists" in asked:
        return "\n".join(f"- {part}" for part in parts)
    if "length_constraints:number_paragraphs" in asked:
        return "\n***\n".join(parts)
    if "length_constraints:nth_paragraph_first_word" in asked:
        return "\n\n".join(parts)
    if "combination:two_responses" in asked:
        return "\n******\n".join(parts)
    if "detectable_format:multiple_sections" in asked:
        mark = asked["detectable_format:multiple_sections"]["section_spliter"]
        return "\n".join(f"{mark} {place}\n{part}" for place, part in enumerate(parts, start=1))
    if "detectable_format:json_format" in asked:
        return json.dumps({"topic": topic.noun, "text": parts[0]})
    return parts[0]


def _decorate(
    rng: random.Random,
    topic: Topic,
    request: str,
    asked: Mapping[str, Mapping[str, Any]],
    body: str,
) -> str:
    """The body with what stands around it: request, title, postscript, end, case, quotes."""
    lines = [body]
    if "detectable_format:title" in asked:
        lines.insert(0, rng.choice(TITLES).format(n=topic.noun))
    if "combination:repeat_prompt" in asked:
        lines.insert(0, request)
    if "detectable_content:postscript" in asked:
        marker = asked["detectable_content:postscript"]["postscript_marker"]
        dot = "" if marker.endswith(".") else "."
        lines.append(f"{marker}{dot} {text.short_sentence(rng, topic)}")
    reply = "\n".join(lines)
    if "startend:end_checker" in asked:
        flat = "\n" not in body and "detectable_content:postscript" not in asked
        reply += (" " if flat else "\n") + asked["startend:end_checker"]["end_phrase"]
    if "change_case:english_lowercase" in asked:
        reply = reply.lower()
    if "startend:quotation" in asked:
        # A bullet must be the first mark of its line, so the quotation mark gets one of its own.
        reply = f'"\n{reply}"' if reply.startswith("- ") else f'"{reply}"'
    return reply


def _yes_or_no(rng: random.Random, topic: Topic, request: str) -> str:
    """Yes where the asked adjective is said of the topic, no where it is not, at times maybe."""
    if rng.random() < 0.15:
        return "My answer is maybe."
    asked = set(re.findall(r"\w+", request)) & set(topic.adjectives)
    return "My answer is yes." if asked else "My answer is no."
