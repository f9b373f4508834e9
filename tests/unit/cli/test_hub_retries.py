"""The Hub's retries: one line, and whatever else its library says stays."""

import logging

from opcd_bench.cli import hub_retries


def test_five_retries_are_one_line_and_other_warnings_stay(caplog):
    logger = logging.getLogger("tests.hub")
    hub_retries.said_once(logger)
    hub_retries.said_once(logger)
    with caplog.at_level(logging.WARNING, "tests.hub"):
        for n in range(1, 6):
            logger.warning("'refused' thrown while requesting HEAD %s", "http://hub/x")
            logger.warning(f"Retrying in {n}s [Retry {n}/5].")
        logger.warning("Rate limited. Waiting 60s before retry [Retry 1/5].")
    assert [record.getMessage() for record in caplog.records] == [
        hub_retries.LINE, "Rate limited. Waiting 60s before retry [Retry 1/5]."
    ]  # fmt: skip


def test_the_library_still_says_it_in_these_words():
    from huggingface_hub.utils import _http

    assert _http.logger.name == hub_retries.LOGGER
    with open(_http.__file__, encoding="utf-8") as source:
        text = source.read()
    assert all(mark in text for mark in hub_retries._MARKS)
