"""The Hub's retries as one line in all, in place of two for each of them."""

from __future__ import annotations

import logging

LOGGER = "huggingface_hub.utils._http"
LINE = "The Hub does not answer; trying again for up to half a minute."
_MARKS = ("Retrying in ", "thrown while requesting")
"""What the library's two lines for each retry hold."""


def said_once(logger: logging.Logger | None = None) -> None:
    """Have the library's logger say `LINE` for the first retry, and nothing for the others."""
    logger = logger or logging.getLogger(LOGGER)
    if not any(isinstance(own, _Once) for own in logger.filters):
        logger.addFilter(_Once())


class _Once(logging.Filter):
    said = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is shown: every one that is of no retry, and the first that is."""
        if not any(mark in record.getMessage() for mark in _MARKS):
            return True
        first, self.said = not self.said, True
        record.msg, record.args = LINE, ()
        return first
