"""Answers to math problems, as DAPO reads and compares them, and as math-verify does."""

from fractions import Fraction

import pytest

from opcd_bench.envs.math_answers import equivalent, normal_form, number_of, read_answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("so it is 4.\nAnswer: 34", "34"),
        ("Answer: 3\nno, wait.\nAnswer: 34\nDone.", "34"),
        ("the final ANSWER : $x = 34$", "$x = 34$"),
        (r"so \boxed{34}", "34"),
        (r"\boxed{1} and then \boxed{\frac{1}{2}} so", r"\frac{1}{2}"),
        (r"Answer: 3 and not \boxed{4}", r"3 and not \boxed{4}"),
        (r"Answer: \boxed{4}", r"\boxed{4}"),
        ("Answer:\n34", "34"),
        ("**Answer:** 34", "** 34"),
        ("<think>Answer: 7</think>Answer: 34", "34"),
        (r"<think>\boxed{7}</think>Answer: 34", "34"),
        ("Answer: 3 " + "and so on. " * 50, ("3 " + "and so on. " * 50).strip()),
    ],
)
def test_the_last_answer_line_is_read_or_else_the_last_box(reply, answer):
    assert read_answer(reply) == answer


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "34",
        "Answer:",
        "Answer:   \n  ",
        r"\boxed{3",
        r"\boxed{}",
        "<think>Answer: 34",
        r"<think>\boxed{34}</think> I do not know.",
        "The answer is 34",
    ],
)
def test_a_reply_without_either_gives_no_answer(reply):
    assert read_answer(reply) is None


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("34", "34"),
        ("$34$", "34"),
        ("x = 34", "34"),
        ("1,234", "1234"),
        ("1,234 dollars", "1234"),
        ("90^\\circ", "90"),
        ("90 degrees", "90"),
        (r"\$5", "5"),
        (r"\boxed{34}", "34"),
        (r"\text{east}", "east"),
        (r"5\text{ cm}", "5"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\sqrt2", r"\sqrt{2}"),
        ("so it is $a+b$ in all", "a+b"),
        ("the answer is $34.$", "34"),
        ("an apple", "apple"),
        # what it keeps, so that DAPO counts these as wrong against 34
        ("34.", "34."),
        ("34.0", "34.0"),
        ("** 34", "**34"),
        (" 034", "034"),
        ("1.5,2", "1.5,2"),
    ],
)
def test_the_normal_form_is_dapo_s(answer, form):
    assert normal_form(answer) == form


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("72", 72),
        ("$1,080.00", 1080),
        (r"\$18", 18),
        ("72 clips", 72),
        ("48 + 24 = 72 clips", 72),
        ("-3.5", Fraction(-7, 2)),
        (".5", Fraction(1, 2)),
        ("3/4 of it", Fraction(3, 4)),
        ("1.5/3", Fraction(1, 2)),
        ("** 72 **", 72),
        ("25%", 25),
        ("seventy", None),
        ("1/0", None),
        ("", None),
    ],
)
def test_a_number_is_read_out_of_words(answer, number):
    assert number_of(answer) == number


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
    ],
)
def test_math_verify_compares_what_the_answers_mean(reference, answer, same):
    assert equivalent(reference, answer) is same


def test_a_number_too_large_to_work_out_is_given_up_on(monkeypatch):
    monkeypatch.setattr("opcd_bench.envs.math_answers.TIMEOUT", 1)
    assert equivalent("5", "10^{10^{10}}") is False
