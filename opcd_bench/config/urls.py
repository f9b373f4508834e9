"""The URL of a server, checked before anything is sent to it."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

EXAMPLE = "write http://HOST:PORT, for example http://localhost:8000"
LONGEST_HOST = 253
"""Characters of a host's name; a part between two dots has at most 63 (RFC 1035)."""

_UNPRINTED = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff]")
_PART = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)


def checked_url(value: str | None) -> str | None:
    """The URL of a server as it was given; ValueError says what is wrong with it."""
    if value is None:
        return None
    if wrong := _wrong(value):
        raise ValueError(f"this is no URL of a server: {wrong}; {EXAMPLE}")
    return value


def _wrong(value: str) -> str | None:
    if _UNPRINTED.search(value):
        return "it has a space or a control code"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or "://" not in value:
        return "it does not begin with http:// or https://"
    if port == 0:
        return "port 0 serves nothing"
    if parts.fragment:
        return "it has a part after #, which no request would keep"
    return _wrong_host(parts)


def _wrong_host(parts: SplitResult) -> str | None:
    host = parts.hostname
    if not host:
        return "it names no host"
    if "[" in parts.netloc:
        return None  # urlsplit has read the address
    if len(host) > LONGEST_HOST:
        return f"its host has {len(host)} characters, and {LONGEST_HOST} are the most"
    try:
        name = host.encode("idna").decode("ascii").rstrip(".")
    except UnicodeError:
        return "its host is no name that a network knows"
    if re.fullmatch(r"[\d.]+", name):
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return "its host is no IP address"
    if not all(_PART.fullmatch(part) for part in name.split(".")):
        return "its host is no name that a network knows"
    return None


ServerUrl = Annotated[str | None, AfterValidator(checked_url)]
"""The type of a setting that is a server's URL."""
