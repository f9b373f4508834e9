"""Equality as math-verify has it, of answers that it can be asked about."""

import logging
import signal
import threading
import time

import pytest

from opcd_bench.envs.math_equality import bounded, equivalent


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [
        ("34", "34.0", True),
        ("34", "** 34", True),
        ("34", "34.", True),
        ("34", "34 clips", True),
        ("34", r"\frac{68}{2}", True),
        ("34", "x = 34", True),
        ("1234", "1,234", True),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt 2}", True),
        ("34", "35", False),
        ("34", "-34", False),
        ("34", "east", False),
        ("34", "", False),
        ("34", r"\frac{", False),
        ("34", "`34`", True),
        ("34", "34, since 30 + 4 = 34", True),
        ("34", "so it is $2^{5}+2$", True),
        # two numbers, or what it is not
        ("34", "35, 34", False),
        ("34", "34, 35", False),
        ("34", "35 or 34", False),
        ("34", "35 and 34", False),
        ("34", "$34$ or 35", False),
        ("34", "x = 35 or x = 34", False),
        ("34", "not 34", False),
        ("34", "not $34$", False),
        ("34", r"\text{not } 34", False),
        # the last number of an answer that says another
        ("34", "- 34", False),
        ("34", "34 million", False),
        ("2", r"17 \times 2", False),
        ("34", r"17 \times 2", True),
        # of other references
        ("(3, 4)", "(3,4)", True),
        (r"\{1, 2\}", r"\{2, 1\}", True),
        (r"\frac{\sqrt{2}}{2}", r"so it is $\frac{1}{\sqrt 2}$", True),
    ],
)
def test_math_verify_compares_what_the_answers_mean(reference, answer, same):
    assert equivalent(reference, answer) is same


@pytest.mark.parametrize(
    "answer",
    [
        "10^{10^{10}}",
        "10^10^10",
        "9**9**9",
        "2^{999}",
        "((2^{50})^{50})^{50}",
        "(a+b+c)^{30}",
        "1e999999999",
        "(9!)!",
        "1000!",
        "99!!",
        "2^9!",
        r"\sum_{k=1}^{999999999} k",
        r"\binom{999999}{5000}",
        "{" * 50 + "34" + "}" * 50,
        "(" * 7 + "34" + ")" * 7,
        "x|" * 5,
        "a_" * 5,
        "34/" * 5,
        "9" * 101,
        "so it is 34 " * 10,
    ],
)
def test_what_may_take_long_is_never_asked(answer, monkeypatch):
    import math_verify

    def parse(*args, **kwargs):
        raise AssertionError("math-verify was asked")

    monkeypatch.setattr(math_verify, "parse", parse)
    assert not bounded(answer)
    assert equivalent("34", answer) is False
    assert equivalent(answer, "34") is False


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (r"\sqrt{2}^{2}", "2"),
        (r"2^{10}", "1024"),
        ("2**10", "1024"),
        ("**34**", "34"),
        ("**34** clips", "34"),
        (r"90^\circ", "90"),
        ("5!", "120"),
        (r"\frac{\frac{1}{2}}{\frac{1}{4}}", "2"),
        (r"1\!080", "1080"),
        ("1{,}080", "1080"),
    ],
)
def test_what_ends_soon_is_asked(answer, reference):
    assert bounded(answer)
    assert equivalent(reference, answer)


SLOWEST = (
    "{" * 6 + "34" + "}" * 6,
    "1+" * 49 + "1",
    r"\sqrt2" * 16,
    "sqrt(2)-" * 12,
    r"\frac{1}{2}" * 9,
    "$" * 100,
    "1 a " * 25,
)


@pytest.mark.parametrize("answer", SLOWEST)
def test_the_slowest_of_what_is_asked_ends_soon(answer):
    equivalent("34", "35")  # imports
    begin = time.process_time()
    assert bounded(answer)
    equivalent("34", answer)
    assert time.process_time() - begin < 4


def test_any_thread_may_ask_and_no_alarm_is_set(monkeypatch):
    def alarm(seconds):
        raise AssertionError("an alarm was set")

    monkeypatch.setattr(signal, "alarm", alarm)
    found = []
    thread = threading.Thread(target=lambda: found.append(equivalent("34", "34.0")))
    thread.start()
    thread.join()
    assert found == [True]


def test_nothing_of_a_reply_is_printed_or_logged(capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        for answer in (r"\frac{", "secret {", "34 secret", "10^{10^{10}}"):
            equivalent("34", answer)
    assert capfd.readouterr() == ("", "")
    assert "secret" not in caplog.text and "imeout" not in caplog.text
