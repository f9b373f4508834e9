"""What may be shown and stored of a text that others wrote: no control codes, no credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# C0 without tab and newline, DEL, C1, line and paragraph separators, and what turns the direction
# of writing: they move a cursor, hide text or end a line wherever they are printed.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_USER = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^\s/?#'\"<>]*@")
_SECRET = (
    r"tokens?|keys?|apikey|secret|password|passwd|pwd|auth|authorization|credentials?|sig|signature"
)
_QUERY = re.compile(rf"(?i)([?&;](?:[\w.%-]*[_.-])?(?:{_SECRET})=)[^&;\s#'\"<>]+")
_SETTING = re.compile(rf"(?i)(?:^|[_.-])(?:{_SECRET})$")
HIDDEN = "***"

# A cell that a spreadsheet would take for a formula, and the mark that keeps it a text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf|nan")


def visible(text: str) -> str:
    r"""``text`` with control codes written out (``\x1b``, ``\u202e``), but tabs and newlines."""
    return _CONTROL.sub(_escaped, text)


def one_line(text: str) -> str:
    """`visible` on a single line: tabs and ends of line are spaces."""
    return visible(re.sub(r"\s*[\n\r\t]\s*", " ", text))


def without_secrets(text: str) -> str:
    """``text`` whose URLs have lost ``user:password@`` and the values of token-like parameters."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def url_without_secrets(url: str) -> str:
    """A server's URL without its credentials, also where it lacks its ``http://``."""
    shown = without_secrets(url)
    scheme, mark, rest = shown.rpartition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = f"{HIDDEN}@{rest[authority.rindex('@') + 1 :]}"
    return f"{scheme}{mark}{rest}"


def is_secret(key: str) -> bool:
    """Whether a setting of this name holds a credential: ``hf_token``, ``api_key``."""
    return _SETTING.search(key) is not None


def hidden(value: Any, secret: bool = False) -> Any:
    """A JSON value without the texts of its settings that hold credentials, however deep.

    ``secret``: without any text.
    """
    if isinstance(value, Mapping):
        return {key: hidden(one, secret or is_secret(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(one, secret) for one in value]
    if not isinstance(value, str):
        return value
    return HIDDEN if secret else without_secrets(value)


def printable(text: str) -> str:
    """What a message says and a record keeps: no credentials, no control codes."""
    return visible(without_secrets(text))


def json_visible(text: str) -> str:
    """A JSON document without a raw control code, which says the same."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def csv_text(text: str) -> str:
    """A cell of a CSV file that is text for a spreadsheet too.

    What begins with ``= + - @``, a tab, a carriage return or an apostrophe gets an apostrophe in
    front, unless it is a number. To have the text back, take one apostrophe off each cell that
    begins with one.
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
