"""The verdict says what the statistics say, and nothing more."""

import pytest
from report_comparison import TASK, separated

from opcd_bench.report.analysis import discrimination
from opcd_bench.report.analysis.floors import AboveFloor
from opcd_bench.report.figures import style
from opcd_bench.report.page import verdict

NAMES = ("forward_kl", "jsd", "opcd", "sft_context")
MARKS = style.palette(("sft_context", "forward_kl", "opcd", "jsd"))
VALUES = {
    "forward_kl": 0.3, "jsd": 0.25, "opcd": 0.42, "sft_context": 0.1, "control_null": 0.0,
}  # fmt: skip


def text(beats, names=NAMES, kept=("keep",), marks=MARKS, **more):
    values = {"test": VALUES, "efficiency": VALUES, **{name: VALUES for name in kept}}
    found = separated(names, kept, beats=beats, values=values, **more)
    (one,) = verdict.verdicts(*found.values(), marks, [TASK])
    assert one.task == TASK
    return one.text


def test_the_best_stands_against_those_it_beats_and_those_it_does_not():
    said = text({"test": [("opcd", "sft_context"), ("opcd", "jsd")]})
    assert said == (
        "OPCD gains more than SFT and Jensen–Shannon (+42.0 against +10.0 and +25.0 points). "
        "In efficiency and keep no two methods are separated: "
        "the smallest differences that would show, corrected for 18 tests, are 3.0 % of the gap "
        "and 3.0 points."
    )


def test_who_stands_at_the_base_keeps_everything_and_beats_nobody_by_that():
    """Which pairs there are says `Measure.compared`; here it has no clause, and a sentence."""
    beats = {"test": [("opcd", "sft_context")], "keep": [("opcd", "sft_context")]}
    values = {name: VALUES for name in ("test", "efficiency", "keep")}
    found = separated(NAMES, ("keep",), beats=beats, values=values)
    still = [(TASK, "jsd"), ("another", "opcd")]
    (one,) = verdict.verdicts(*found.values(), MARKS, [TASK], still)
    assert "; OPCD forgets less of keep than SFT (+42.0 against +10.0 points)" in one.text
    assert one.text.endswith(
        "Jensen–Shannon stands at the base (no step of the training was better on dev) and is not "
        "compared on retention."
    )


def test_what_is_found_on_several_measures_is_one_sentence():
    beats = {
        "test": [("opcd", "sft_context")],
        "efficiency": [("opcd", name) for name in NAMES if name != "opcd"],
        "keep": [("opcd", "sft_context")],
    }
    said = text(beats)
    assert said.count(". ") == 0
    assert "Forward KL and Jensen–Shannon (42 % of the gap, the best of them 30); OPCD" in said
    assert "; OPCD forgets less of keep than SFT (+42.0 against +10.0 points)" in said


def test_where_no_two_are_separated_it_says_what_would_have_shown():
    assert text({}) == (
        "In gain, efficiency and keep no two methods are separated: the smallest differences "
        "that would show, corrected for 18 tests, are 3.0 points, 3.0 % of the gap and 3.0 points."
    )


@pytest.mark.parametrize(
    ("mde", "said"),
    [
        (float("nan"), ["not known", "not known", "not known"]),
        (0.0, ["0.0 points", "0.0 % of the gap", "0.0 points"]),
        (1.08, ["larger than any that there can be", "larger than the whole gap"]),
        (float("inf"), ["larger than any that there can be"] * 3),
    ],
)
def test_what_is_not_known_and_what_cannot_be_is_called_so(mde, said):
    sentence = text({}, mde=mde)
    assert f"corrected for 18 tests, are {', '.join(said[:2])}" in sentence
    assert sentence.endswith(f"{said[0]}.")


def test_of_two_methods_on_one_measure_nothing_is_corrected():
    found = separated(NAMES[:2], (), beats={}, values={"test": VALUES})
    pairs = found["pairs"]
    pairs.loc[pairs["measured"] == "efficiency", "p"] = float("nan")
    (one,) = verdict.verdicts(found["groups"], pairs, found["discrimination"], MARKS, [TASK])
    assert "that would show are 3.0 points and" in one.text


@pytest.mark.parametrize("beats", [{}, {"test": [("opcd", "sft_context")]}])
def test_one_training_each_orders_trainings_and_not_methods(beats):
    assert text(beats, seeds=(0,)).endswith(discrimination.ONE_TRAINING)
    assert discrimination.ONE_TRAINING not in text(beats)


def test_nobody_is_said_to_be_beaten_by_one_that_is_beaten_itself():
    """Forward KL beats SFT, but OPCD stands above it: the best of those that beat anybody leads."""
    said = text({"test": [("forward_kl", "sft_context"), ("opcd", "forward_kl")]})
    assert said.startswith("OPCD gains more than Forward KL (+42.0 against +30.0 points). In")


def test_methods_that_are_shown_to_be_alike_are_said_to_be_alike():
    found = separated(NAMES, (), beats={"test": [("opcd", "jsd")]}, values={"test": VALUES})
    pairs = found["pairs"]
    pairs["equivalent"] = pairs["measured"] == "efficiency"
    (one,) = verdict.verdicts(found["groups"], pairs, found["discrimination"], MARKS, [TASK])
    assert one.text.endswith("all methods are alike in efficiency within ±2.0 % of the gap.")


@pytest.mark.parametrize(
    ("below", "some", "ceiling", "says"),
    [
        ((), True, True, ""),
        (("jsd", "sft_context"), True, True,
         "SFT and Jensen–Shannon are not shown to be above the floor, 33.3 % (a guess)."),
        (("sft_context",), True, False,
         "SFT is not shown to be above the floor, 33.3 % (a guess), nor is the in-context "
         "teacher."),
        (NAMES, False, False, "No method is shown to be above the floor, 33.3 % (a guess), nor is "
         "the in-context teacher."),
    ],
)  # fmt: skip
def test_who_knows_no_more_than_a_policy_that_reads_nothing_is_named(below, some, ceiling, says):
    found = separated(NAMES, ("keep",), beats={}, values={"test": VALUES, "efficiency": VALUES})
    floors = {TASK: AboveFloor("a guess", 1 / 3, ceiling, tuple(below), some)}
    (one,) = verdict.verdicts(*found.values(), MARKS, [TASK], floors=floors)
    assert one.text.endswith(says) and ("floor" in one.text) == bool(says)


def test_controls_take_no_part():
    names = (*NAMES, "control_null")
    marks = style.palette(names, {"control_null"})
    beats = {"test": [("opcd", "jsd"), ("opcd", "control_null")]}
    said = text(beats, names, marks=marks, controls=("control_null",))
    assert said.startswith("OPCD gains more than Jensen–Shannon (+42.0 against +25.0 points). In")
    assert "control" not in said.lower()


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (0.0, "none is shown to gain over the base (the largest change is 0.0 points)."),
        (0.4, "Null control gained, which they should not."),
    ],
)
def test_a_suite_of_controls_alone_says_that_they_gained_nothing(gain, says):
    values = {"test": {"control_null": gain}, "efficiency": {"control_null": gain}}
    names, marks = ("control_null",), style.palette(["control_null"], {"control_null"})
    found = separated(names, (), values=values, controls=names)
    (one,) = verdict.verdicts(*found.values(), marks, [TASK])
    assert one.text.startswith("only controls have run") and one.text.endswith(says)


def test_many_methods_are_counted_and_not_listed():
    names = tuple(f"m{i}" for i in range(9))
    values = {name: i / 10 for i, name in enumerate(names)}
    found = separated(names, (), beats={"test": [("m8", name) for name in names[:8]]},
                      values={"test": values, "efficiency": values})  # fmt: skip
    marks = style.palette(names)
    (one,) = verdict.verdicts(*found.values(), marks, [TASK])
    assert one.text.startswith("m8 gains more than all others (+80.0 points).")


@pytest.mark.parametrize(
    ("measure", "called"), [("drift", "drift"), ("loss_gsm8k", "held-out loss on GSM8K")]
)
def test_a_measure_in_nats_is_said_in_nats_and_words(measure, called):
    found = separated(("jsd", "opcd"), (measure,), beats={measure: [("jsd", "opcd")]},
                      values={measure: {"jsd": 0.11, "opcd": 0.42}})  # fmt: skip
    for frame in found.values():
        frame.loc[frame["measured"] == measure, "unit"] = "nats"
    groups = found["groups"]
    drift = groups["measured"] == measure
    groups.loc[drift, "rank"] = groups.loc[drift, "method"].map({"jsd": 1, "opcd": 2})
    (one,) = verdict.verdicts(*found.values(), MARKS, [TASK])
    assert one.text.startswith(
        f"Jensen–Shannon has less {called} than OPCD (0.110 against 0.420 nats)"
    )


def test_a_single_method_is_compared_with_nobody():
    said = text({}, ("opcd",))
    assert said.startswith("only OPCD has finished (gain +42.0 points, efficiency 42 % of the gap")


def test_a_task_without_a_score_has_no_verdict():
    found = separated(NAMES)
    assert verdict.verdicts(*found.values(), MARKS, ["another"]) == []
    nothing = [frame.iloc[:0] for frame in found.values()]
    assert verdict.verdicts(*nothing, MARKS, [TASK]) == []
