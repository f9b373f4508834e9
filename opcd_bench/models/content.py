"""Content of prompts as token ids: what looks like a control token in it stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from opcd_bench.envs.task import Message
from opcd_bench.errors import DataError, ModelError

MARK = "\U000f0000"
_PRIVATE = range(0xF0001, 0x10FFFE)

Render = Callable[[Sequence[Message]], str]

_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[str, int], Controls]] = (
    WeakKeyDictionary()
)


def controls_of(tokenizer: PreTrainedTokenizerBase) -> Controls:
    """The control tokens of a tokenizer and its chat template; worked out once."""
    known = _KNOWN.setdefault(tokenizer, {})
    key = (str(tokenizer.chat_template), len(tokenizer))
    if key not in known:
        known[key] = Controls(tokenizer)
    return known[key]


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The ids of a rendered text: masked control tokens as text, all others as themselves.

    Without masks they are the tokenizer's own.
    """
    if MARK in text:
        return controls_of(tokenizer).ids(text)
    return tuple(int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"])


def content_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The ids of a text that stands in no template, all of which is content."""
    controls = controls_of(tokenizer)
    return ids_of(tokenizer, controls.masked(text) if controls.inside(text) else text)


class Controls:
    """The added tokens by which a chat template steers: the special ones, and those it names.

    Content that holds the text of one is masked before the template is rendered: MARK, the token's
    number, MARK. What the template itself writes is not, so that the two can be told apart.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        template = str(tokenizer.chat_template)
        added = {
            token.content: int(i)
            for i, token in tokenizer.added_tokens_decoder.items()
            if token.content and (token.special or _steers(token.content, template))
        }
        for token, i in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True):
            added.setdefault(str(token), int(i))
        self.tokens = tuple(sorted(added, key=lambda token: (-len(token), token)))
        self._ids = added
        self._unknown = tokenizer.unk_token_id
        fast = isinstance(tokenizer, PreTrainedTokenizerFast)
        self._core: Tokenizer | None = tokenizer.backend_tokenizer if fast else None
        self._twins: dict[str, Tokenizer] = {}
        listed = "|".join(map(re.escape, self.tokens))
        self._any = re.compile(f"{MARK}|{listed}" if listed else MARK)
        self._masks = re.compile(f"{MARK}(?P<number>[0-9]+){MARK}|(?P<own>{listed or '(?!)'})")

    # --- content ------------------------------------------------------------------------------

    def inside(self, text: str) -> bool:
        """Whether the tokenizer might read one of them in ``text``."""
        if self._any.search(text):
            return True
        normalizer = None if self._core is None else self._core.normalizer
        if normalizer is None:
            return False
        return self._any.search(normalizer.normalize_str(text)) is not None

    def at_start(self, text: str) -> str | None:
        """The control token that ``text`` begins with."""
        found = self._any.match(text)
        return None if found is None or found[0] == MARK else found[0]

    def masked(self, text: str, only: frozenset[str] | None = None) -> str:
        """``text`` with its control tokens masked (those of ``only``), and MARK itself."""

        def mask(found: re.Match[str]) -> str:
            token = found[0]
            if token == MARK:
                return f"{MARK}{len(self.tokens)}{MARK}"
            if only is not None and token not in only:
                return token
            return f"{MARK}{self.tokens.index(token)}{MARK}"

        return self._any.sub(mask, text)

    def unmasked(self, text: str) -> str:
        """The text that was masked."""
        return self._masks.sub(self._text, text)

    def _text(self, found: re.Match[str]) -> str:
        if found["number"] is None:
            return found[0]
        return (*self.tokens, MARK)[int(found["number"])]

    # --- prompts ------------------------------------------------------------------------------

    def rendered(self, messages: Sequence[Message], render: Render) -> str:
        """What ``render`` makes of ``messages``, masked where they hold control tokens.

        A mark that the template itself reads in a message (``</think>`` in an earlier reply) is
        left to it: the unmasked text is the same as without masks.
        """
        text = render(messages)
        if not any(self.inside(value) for one in messages for value in one.values()):
            return text
        every = [self._masked(one, None) for one in messages]
        if self._same(every, render, text):
            return render(every)
        kept = [self._masked(one, frozenset()) for one in messages]
        for place, message in enumerate(messages):
            hidden: frozenset[str] = frozenset()
            for token in self._held(message):
                tried = [*kept]
                tried[place] = self._masked(message, hidden | {token})
                if self._same(tried, render, text):
                    kept, hidden = tried, hidden | {token}
        return render(kept)

    def _masked(self, message: Message, only: frozenset[str] | None) -> Message:
        return {key: self.masked(value, only) for key, value in message.items()}

    def _held(self, message: Message) -> list[str]:
        found = (token for value in message.values() for token in self._any.findall(value))
        return [token for token in dict.fromkeys(found) if token != MARK]

    def _same(self, messages: Sequence[Message], render: Render, text: str) -> bool:
        try:
            return self.unmasked(render(messages)) == text
        except DataError:
            return False

    # --- ids ----------------------------------------------------------------------------------

    def ids(self, text: str) -> tuple[int, ...]:
        """The ids of a rendered text with masks.

        A twin of the tokenizer reads it, whose control tokens have names that are not in the text:
        nothing else about it differs. Raises DataError where there can be no twin.
        """
        plain = self.unmasked(text)
        name = next((chr(code) for code in _PRIVATE if chr(code) not in plain), None)
        if name is None or self._core is None:
            held = next(self._text(mask) for mask in self._masks.finditer(text) if not mask["own"])
            raise DataError(
                f"content of a prompt holds {held!r}, which this model's tokenizer cannot read as "
                "text, because it is no fast one (tokenizer.json). Remove it from the data or the "
                "context"
            )

        def renamed(found: re.Match[str]) -> str:
            own = found["own"]
            return self._text(found) if own is None else self._name(name, own)

        twin = self._twin(name)
        named = self._masks.sub(renamed, text)
        ids = tuple(int(i) for i in twin.encode(named, add_special_tokens=False).ids)
        self._assert_text(ids, sum(f["own"] is not None for f in self._masks.finditer(text)))
        return ids

    def _assert_text(self, ids: Sequence[int], own: int) -> None:
        control = set(self._ids.values()) - {self._unknown}
        if (found := sum(i in control for i in ids)) > own:
            raise ModelError(
                f"the tokenizer makes {found - own} control tokens out of content, which must stay "
                "text. Use the model's fast tokenizer (tokenizer.json)"
            )

    def _name(self, name: str, token: str) -> str:
        return f"{name}{self.tokens.index(token)}{name}"

    def _twin(self, name: str) -> Tokenizer:
        if name not in self._twins:
            assert self._core is not None
            names = {token: self._name(name, token) for token in self.tokens}
            twin = _renamed(self._core, names)
            for token, other in names.items():
                if twin.token_to_id(other) != self._ids[token]:
                    raise ModelError(f"the tokenizer cannot tell {token!r} in content from its own")
            self._twins[name] = twin
        return self._twins[name]


def _steers(token: str, template: str) -> bool:
    """Whether an added token that is not special is one that the template writes or reads."""
    return token in template and not all(one.isalnum() or one.isspace() for one in token)


def _renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A copy of a tokenizer in which tokens have other names, and are found as they are written."""
    made = json.loads(tokenizer.to_str())
    for token in made["added_tokens"]:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "normalized": False}
    model = made["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:  # no merge of text ends at a control token
        model["merges"] = [pair for pair in model["merges"] if not _touches(pair, names)]
    twin: Tokenizer = Tokenizer.from_str(json.dumps(made))
    twin.no_truncation()
    twin.no_padding()
    return twin


def _touches(pair: str | Sequence[str], names: Mapping[str, str]) -> bool:
    left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
    return left in names or right in names or left + right in names
