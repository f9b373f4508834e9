"""Answers to math problems, as people write them, and as DAPO reads and compares them."""

import random
import re
import time
from fractions import Fraction

import pytest

from opcd_bench.envs.math_answers import (
    dapo_answer,
    normal_form,
    number_of,
    read_answer,
    undecided,
)


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
    assert dapo_answer(reply) == answer


@pytest.mark.parametrize(
    ("reply", "answer", "dapo"),
    [
        ("**Answer**: 72", "72", None),
        ("__Answer__ : 72", "72", None),
        (r"\textbf{Answer}: 72", "72", None),
        ("Answer：72", "72", None),
        ("**Answer**: 72\nAnswer: 7", "7", "7"),
        ("Answer: 7\n**Answer**: 72", "72", "7"),
        ("Answer:\n- 72", "72", "- 72"),
        ("Answer:\n-72", "-72", "-72"),
        ("Answer: - 5", "- 5", "- 5"),
        # a box that is cut off hides no whole one
        (r"\boxed{34} or \boxed{35", "34", "34"),
        (r"\boxed{34}, so \boxed{\frac{1}{2}", "34", "34"),
        (r"\boxed{\boxed{34}", "34", "34"),
        (r"} so \boxed{34}", "34", "34"),
    ],
)
def test_answers_are_read_as_people_write_them_and_dapo_keeps_its_own(reply, answer, dapo):
    assert (read_answer(reply), dapo_answer(reply)) == (answer, dapo)


@pytest.mark.parametrize(
    ("reply", "answer", "dapo"),
    [
        ("**Answer:**\n72", "72", "**"),
        ("**Answer:**\n\n**72**", "**72**", "**"),
        ("**Answer:**\n- 72", "72", "**"),
        ("**Answer:**\n-72", "-72", "**"),
        ("**Final Answer:**\n\n$$\n\\boxed{72}\n$$", r"\boxed{72}", "**"),
        ("**Final Answer:** $$\n72\n$$", "72", "** $$"),
        ("Answer:\n\\[\n\\boxed{72}\n\\]", r"\boxed{72}", r"\["),
        ("Answer:\n\\[\n\\boxed{\n72\n}\n\\]", "72", r"\["),
        ("Answer:\n\\begin{align*}\n72\n\\end{align*}", "72", r"\begin{align*}"),
        ("Answer:\n```\n72\n```", "72", "```"),
        ("Answer:\n```text\n72\n```", "72", "```text"),
        ("Answer: ```72```", "```72```", "```72```"),
        ("Answer:\n> 72", "> 72", "> 72"),
        ("Answer: \\(\n72 \\)", r"72 \)", r"\("),
        # a label that nothing follows hides neither an earlier answer nor a box
        ("so \\boxed{72}.\n**Answer:**\n", "72", "**"),
        ("Answer: 72\n**Answer:**", "72", "**"),
        ("**Answer:**\n72\n**Final Answer:**", "72", "**"),
        ("**Answer:**\n**Final Answer:** 72", "** 72", "** 72"),
        ("**Answer:**\n---", None, "**"),
    ],
)
def test_an_answer_is_read_below_a_label_that_mark_up_alone_follows(reply, answer, dapo):
    assert (read_answer(reply), dapo_answer(reply)) == (answer, dapo)


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
        # digits in groups
        ("1{,}080", 1080),
        (r"1\,080", 1080),
        (r"1,\!080", 1080),
        (r"12\ 345\;678", 12345678),
        ("1\u2009080", 1080),
        ("1\u202f080", 1080),
        ("1\u00a0080", 1080),
        ("1 080 clips", 1080),
        ("1'080", 1080),
        ("1,00,000", 100000),
        ("72 100-dollar bills", Fraction(72100)),
        ("48 24", 48),
        # signs
        ("\u22125", -5),
        ("- 5", -5),
        ("\u2013 5", -5),
        ("\uff0d７２", -72),
        ("$-5", -5),
        ("-$5", -5),
        ("minus 5", -5),
        ("10-15", 10),
        ("x-5", 5),
        ("it is -5", -5),
        ("it is - 5", -5),
        ("x = - 5", -5),
        ("(- 5)", -5),
        ("Total: - 5", -5),
        ("** - 5**", -5),
        # a dash that joins words, or a range, is none
        ("Total cost \u2013 $72", 72),
        ("Total - 72", 72),
        ("Total -- 72", 72),
        ("**Total** - 72", 72),
        ("Total (in all) - 72", 72),
        (r"\text{Total} - 72", 72),
        # what is not worked out
        ("15 = 5 x 3", 15),
        ("15 = 5x3", 15),
        (r"15 = 5 \times 3", 15),
        ("15 clips = 5 clips * 3", 15),
        ("12 = 15 - 3", 12),
        ("15 = 5 * 3 = 12 + 3", 15),
        ("5 x 3", None),
        ("48 + 24", None),
        ("x = 5 x 3", None),
        (r"6 \div 3", None),
        ("3 x", 3),
        ("3 - that is all", 3),
        # commas
        ("1,2", None),
        ("1,2345", None),
        ("1234,567", None),
        ("1,234,5", None),
        ("12,34,567", 1234567),
        ("1,234,567.5", Fraction(2469135, 2)),
        # two numbers, or what it is not
        ("5 or 6", None),
        ("5 and 6", None),
        ("5, 6", None),
        ("$5$ or $6$", None),
        ("5 \\text{ or } 6", None),
        (r"\boxed{5} or \boxed{6}", None),
        ("**5** or **6**", None),
        ("5 clips or 6 clips", None),
        ("1 hour or 2 hours", None),
        ("5% or 6%", None),
        ("x = 5 or x = 6", None),
        ("x = 5, y = 6", None),
        ("5 or -5", None),
        ("not 5", None),
        ("it is not equal to 5", None),
        ("it isn't 5", None),
        (r"\neq 5", None),
        ("x != 5", None),
        ("5! = 120", 120),
        ("5!=120", 120),
        ("5, not 6", 5),
        ("5 (not 6)", 5),
        ("1/2 or 0.5", Fraction(1, 2)),
        ("72, or 72.00", 72),
        ("50% or 0.5", 50),
        ("72 hours or 3 days", 72),
        ("3 hours and 30 minutes", 3),
        ("72 clips, 24 of them in May", 72),
        ("48 and 24 make 72, so x = 72", 72),
        ("a = 5, n^2 = 25", 25),
        # scales
        ("$1.5 million", 1500000),
        ("1.5 million dollars", 1500000),
        (r"\$1.5 \text{ million}", 1500000),
        ("**3** thousand", 3000),
        ("2 hundred thousand", 200000),
        ("1/2 Billion", 500000000),
        ("1 million 200 thousand", None),
        ("3 thousandths", 3),
        ("5 hundred-dollar bills", 5),
        # powers and fractions
        (r"2\cdot10^3", 2000),
        (r"$2\cdot10^3$", 2000),
        (r"2\times10^{3}", 2000),
        ("2*10^3", 2000),
        ("2  *  10^3", 2000),
        ("2**10", 1024),
        ("1e5", 100000),
        ("1.5E-1", Fraction(3, 20)),
        (r"1.2 \times 10^{3}", 1200),
        ("5 × 10^2", 500),
        ("10^5", 100000),
        ("2^{10}", 1024),
        ("10^10^10", None),
        ("0^-1", None),
        ("1e999999999", None),
        ("3eggs", 3),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"-\dfrac12", Fraction(-1, 2)),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        ("2 3/4 cups", Fraction(11, 4)),
        ("3½", Fraction(7, 2)),
        # what cannot be held
        ("9" * 300, int("9" * 300)),
        ("9" * 301, None),
        ("9" * 5000, None),
        ("1/" + "9" * 5000, None),
        ("", None),
    ],
)
def test_a_number_is_read_out_of_words(answer, number):
    assert number_of(answer) == number


@pytest.mark.parametrize(
    ("answer", "is_undecided"),
    [("5 or 6", True), ("not 5", True), ("x = 5, x = 6", True), ("5", False), ("many", False)],
)
def test_an_answer_of_two_numbers_or_of_what_it_is_not_is_undecided(answer, is_undecided):
    assert undecided(answer) is is_undecided


def as_dapo_has_it(answer):
    """The normal form by the patterns of DAPO's own file, which are quadratic."""
    from opcd_bench.envs import math_answers

    left = answer.rpartition("=")[2]
    for text, instead in math_answers._REWRITTEN:
        left = left.replace(text, instead)
    for text in (*math_answers._UNITS, *math_answers._DROPPED):
        left = left.replace(text, "")
    left = re.sub(r".*?\$(.*?)\$.*", r"$\1$", left)
    for macro in ("text", "textbf", "overline"):
        left = re.sub(rf"\\{macro}{{(.*?)}}", r"\1", left)
    left = re.sub(r"\\boxed{(.*)}", r"\1", left)
    left = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", left)
    left = re.sub(r"sqrt([^{])", r"sqrt{\1}", left)
    left = left.replace("$", "")
    digits = left.replace(",", "")
    return digits.strip() if digits.isdigit() else left.strip()


def test_one_pass_gives_the_normal_form_of_dapo_s_patterns():
    pieces = [
        *("$", "}", "{", "\n", " ", "a", "1", "34", ",", "=", ".", "and", "\r", "an "),
        *(r"\text{", r"\textbf{", r"\overline{", r"\boxed{", r"\frac", r"\sqrt", r"\$"),
    ]
    rng = random.Random(0)
    for _ in range(20_000):
        answer = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 12)))
        assert normal_form(answer) == as_dapo_has_it(answer), answer


HOSTILE = {
    "answers": "Answer:" * 20_000,
    "answer lines": "Answer:\n" * 17_500,
    "answer lines of mark-up": "**Answer:**\n```\n" * 8_500,
    "mark-up": "Answer: " + "**`\\" * 35_000 + "_",
    "mark-up and words": ("Answer:" + "``` \\text{" * 7) * 1_800 + "x",
    "lines of mark-up": "Answer:" + "\n```" * 35_000,
    "boxes": r"\boxed{" * 20_000,
    "closed boxes": r"\boxed{" * 10_000 + "}" * 10_000,
    "braces": "Answer: " + "{" * 70_000 + "}" * 70_000,
    "digits": "Answer: " + "9" * 5_000,
    "many digits": "Answer: " + "9" * 140_000,
    "digits and commas": "Answer: " + "9,9 " * 35_000,
    "text macros": "Answer: " + r"\text{" * 20_000,
    "fractions": "Answer: " + r"\frac{1" * 20_000,
    "minuses": "Answer: " + "- " * 70_000,
    "blanks": "Answer" + " " * 70_000 + ":" + " " * 70_000,
    "line breaks": "Answer:" + "\n" * 140_000,
    "dollars": "Answer: " + "$" * 140_000,
    "equals": "Answer: " + "=" * 140_000,
    "slashes": "Answer: " + "1/" * 70_000,
    "joined": "Answer: " + "5 or " * 28_000,
    "equations": "Answer: " + "x = 5 or " * 15_000,
    "expressions": "Answer: " + "5 x 3 = " * 17_500,
    "denied": "Answer: " + "not " * 35_000 + "5",
    "unequal": "Answer: " + "≠" * 140_000 + "5",
    "scales": "Answer: 5" + " million" * 17_500,
    "groups": "Answer: " + "12," * 46_000,
    "dashes": "Answer: " + "-" * 140_000 + " 5",
    "text in text": "Answer: " + r"\text{" * 20_000 + "5" + "}" * 20_000,
}
"""Replies of 140,000 characters, each the worst of some reader."""


@pytest.mark.parametrize("name", HOSTILE)
def test_no_reply_takes_long_to_read(name):
    begin = time.process_time()
    for read in (read_answer, dapo_answer):
        found = read(HOSTILE[name])
        normal_form(found or "")
        number_of(found or "")
    assert time.process_time() - begin < 2
