"""Repetition and variety by hand, and a detector that sees collapse and nothing else."""

import random

import pytest

from opcd_bench.distillation.text_health import WINDOW, collapse, newest, variety


def test_variety_is_counted_by_hand():
    found = variety([[1, 2, 3, 4, 1, 2, 3, 4, 1], [5, 6]])
    assert found["repeated_4grams"] == pytest.approx(2 / 6)  # 1234 2341 3412 4123 1234 2341
    assert found["distinct_1"] == pytest.approx(6 / 11)
    assert found["distinct_2"] == pytest.approx(5 / 9)  # 12 23 34 41, and 56
    assert variety([[7] * 20])["repeated_4grams"] == pytest.approx(16 / 17)


def test_responses_too_short_for_a_number_have_none():
    assert variety([[1, 2, 3]]) == {
        "repeated_4grams": None, "distinct_1": 1.0, "distinct_2": 1.0,
    }  # fmt: skip
    assert variety([[1]])["distinct_2"] is None


def rows(repeated, eos=0.9, distinct=0.3, stage=None):
    more = {} if stage is None else {"stage": stage}
    return [
        {"step": i + 1, "repeated_4grams": r, "eos_rate": eos, "distinct_1": distinct, **more}
        for i, r in enumerate(repeated)
    ]


def test_a_rise_of_repetition_is_seen_when_its_median_has_risen():
    found = collapse(rows([0.05] * 20 + [0.9] * 10))
    assert found is not None and found.step == 20 + WINDOW // 2 + 1
    assert (found.before, found.now) == (0.05, 0.9)
    assert "repeated 4-grams went from 0.05 to 0.90" in str(found)


def test_responses_that_no_longer_end_and_those_of_one_token_are_seen():
    ended = [{"step": i + 1, "eos_rate": 1.0 if i < 10 else 0.0} for i in range(20)]
    assert "end by themselves" in collapse(ended).sign
    poor = [{"step": i + 1, "distinct_1": 0.2 if i < 10 else 0.001} for i in range(20)]
    assert "distinct tokens" in collapse(poor).sign


def test_the_leak_of_a_truncated_loss_is_seen_and_a_steady_loss_is_not():
    """Numbers of the published loss, and of its stop-gradient, on a vocabulary of 49,152."""
    leaked = [{"step": i + 1, "student_entropy": 3.0 + 0.3 * i} for i in range(20)]
    assert "entropy" in collapse(leaked).sign
    leaked = [{"step": i + 1, "student_mass": 0.94 - 0.035 * i} for i in range(20)]
    assert "support" in collapse(leaked).sign
    steady = [
        {"step": i + 1, "student_mass": 0.78, "student_entropy": 3.0 + 0.07 * i} for i in range(20)
    ]
    assert collapse(steady) is None


def test_what_the_model_did_from_the_start_is_no_collapse():
    assert collapse(rows([0.9] * 40, eos=0.0, distinct=0.001)) is None
    assert collapse(rows([0.05] * (2 * WINDOW - 1))) is None
    assert collapse([]) is None


def test_single_odd_steps_and_noise_are_no_collapse():
    draw = random.Random(0)
    for _ in range(50):
        noisy = [min(1.0, max(0.0, draw.gauss(0.15, 0.12))) for _ in range(60)]
        for at in range(draw.randrange(5), 60, 6):
            noisy[at] = 1.0
        assert collapse(rows(noisy)) is None


def test_each_stage_is_compared_with_its_own_start():
    first, last = rows([0.0] * 12, stage=1), rows([0.9] * 12, stage=2)
    assert collapse([*first, *last]) is None
    worse = rows([0.1] * 10 + [0.9] * 10, stage=2)
    assert collapse([*first, *worse]) is not None


def test_the_newest_row_alone_tells_whether_it_completes_a_sign():
    every = rows([0.05] * 20 + [0.9] * 10)
    first = next(end for end in range(1, len(every) + 1) if newest(every[:end]) is not None)
    assert collapse(every) == newest(every[:first])
