"""The one check of names that become a file's or a folder's."""

from __future__ import annotations

import re

LONGEST = 200
"""Most characters of a name: a file system takes 255 bytes, and endings come behind."""


def checked_name(name: str) -> str:
    """``name``, if it can name a file or a folder in the one it is meant for; else ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.,=+-]*", name, flags=re.ASCII):
        raise ValueError(
            f"{name!r} cannot name a file or a folder: begin with a letter or a digit, and use "
            "letters, digits and . , = + - _"
        )
    if len(name) > LONGEST:
        raise ValueError(f"a name of {len(name)} characters; the most is {LONGEST}")
    return name
