"""The words that name methods and tasks: a name, a file, and a method's parameters in brackets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WORD = re.compile(r"(?P<head>.*?)(?:\[(?P<inside>[^\[\]]*)\])?", re.DOTALL)
_NUMBER_LIKE = re.compile(r"[-+.]?\d")
LONGEST_SLUG = 100
"""Most characters of a method in a folder's name; the hash behind it tells methods apart."""


@dataclass(frozen=True)
class Word:
    """A word of a suite, taken apart: ``opcd``, ``opcd[k=4]``, ``./mine.py[k=4]``.

    ``name`` is the plugin's: that of a ``file`` is the file's own, without ``.py``. ``parameters``
    are texts, not yet read as the method's fields.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None

    @property
    def text(self) -> str:
        """The name, with its parameters in alphabetical order."""
        return bracketed(self.name, self.parameters)

    @property
    def slug(self) -> str:
        """The word as part of a folder's name: ``opcd-k4``, ``opcd-k4-support_union``."""
        parts = [
            f"{name}{'' if _NUMBER_LIKE.match(value) else '_'}{value}"
            for name, value in sorted(self.parameters.items())
        ]
        kept = re.sub(r"[^A-Za-z0-9_.+-]", "_", "-".join([self.name, *parts]))
        return kept[:LONGEST_SLUG].rstrip("-")


def bracketed(name: str, parameters: Mapping[str, str]) -> str:
    """``name[a=1,b=2]``, in alphabetical order; the name alone without parameters."""
    inside = ",".join(f"{key}={value}" for key, value in sorted(parameters.items()))
    return f"{name}[{inside}]" if inside else name


def is_file(text: str) -> bool:
    """Whether a word (without brackets) is a path: it ends in ``.py``, or has a separator."""
    return text.endswith(".py") or "/" in text or "\\" in text


def split(text: str) -> list[str]:
    """The words of ``a,b[c=1,d=2]``: a comma inside brackets belongs to its word.

    Raises ValueError for brackets that do not close, or that stand inside others.
    """
    found, word, inside = [], "", False
    for letter in text:
        if letter in "[]":
            if inside == (letter == "["):
                raise ValueError(_unpaired(text))
            inside = letter == "["
        if letter == "," and not inside:
            found.append(word)
            word = ""
        else:
            word += letter
    if inside:
        raise ValueError(_unpaired(text))
    return [part.strip() for part in [*found, word] if part.strip()]


def _unpaired(text: str) -> str:
    return f"{text!r}: a bracket has no partner; parameters are written as in 'opcd[k=4]'"


def parse(text: str) -> Word:
    """A word taken apart; ValueError for brackets that hold no ``name=value,…``."""
    found = _WORD.fullmatch(text.strip())
    assert found is not None  # the expression matches any text
    head, inside = found["head"].strip(), found["inside"]
    if not is_file(head) and ("[" in head or "]" in head):
        raise ValueError(_unpaired(text))
    if not head:
        raise ValueError(f"{text!r}: no name stands before the brackets")
    parameters = {} if inside is None else _parameters(text, head, inside)
    if is_file(head):
        name = re.split(r"[\\/]", head.rstrip("\\/"))[-1].removesuffix(".py")
        return Word(name, parameters, head)
    return Word(head, parameters)


def _parameters(text: str, head: str, inside: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in inside.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ValueError(
                f"{text!r}: brackets hold name=value, separated by commas: {head}[k=4]"
                + ("; without parameters leave them out" if not inside.strip() else "")
            )
        if name in found:
            raise ValueError(f"{text!r}: {name} is there twice; give it once")
        found[name] = value
    return found


def listed(value: Any) -> Any:
    """``"a,b"`` as a list of words; anything else as it is. ValueError as `split` raises it."""
    return split(value) if isinstance(value, str) else value


def relative_to(folder: Path, value: Any) -> Any:
    """Words as a file in ``folder`` writes them: its relative paths begin there.

    What is no list of words is left for the settings to refuse.
    """
    try:
        words = listed(value)
    except ValueError:
        return value
    if not isinstance(words, list):
        return value
    return [_moved(folder, word) for word in words]


def _moved(folder: Path, word: Any) -> Any:
    try:
        parsed = parse(word) if isinstance(word, str) else None
    except ValueError:
        return word
    if parsed is None or parsed.file is None or parsed.file.startswith("~"):
        return word
    return bracketed(str(folder / parsed.file), parsed.parameters)


def by_name(values: Mapping[str, Any], words: str, files: str) -> dict[str, Any]:
    """Settings with names in place of paths: those in ``words``, kept by name in ``files``.

    A word that cannot be taken apart, and a second file of a name, stay as they are: the field
    refuses them.
    """
    try:
        given = listed(values.get(words))
    except ValueError:
        return dict(values)
    kept = values.get(files, {})
    if not isinstance(given, list | tuple) or not isinstance(kept, Mapping):
        return dict(values)
    found, named = dict(kept), []
    for word in given:
        named.append(_named(word, found))
    return {**values, words: named, files: found}


def _named(word: Any, files: dict[str, str]) -> Any:
    """A word by its plugin's name; its file, if it has one, is added to ``files``."""
    if not isinstance(word, str):
        return word
    try:
        parsed = parse(word)
    except ValueError:
        return word
    if parsed.file is not None:
        file = str(Path(parsed.file))  # ./mine.py and mine.py are one
        if files.setdefault(parsed.name, file) != file:
            return word
    return parsed.text


def refuse_unusable(words: tuple[Any, ...]) -> None:
    """Raise ValueError for a word that `by_name` had to leave, or one that is there twice."""
    for word in words:
        if isinstance(word, str) and (parsed := parse(word)).file is not None:
            raise ValueError(
                f"{word}: another file is called {parsed.name} too, and names tell plugins apart; "
                "rename one of them"
            )
    if len(set(words)) < len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise ValueError(f"a name is there twice: {twice}; leave one out")
