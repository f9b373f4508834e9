"""Progress is plain lines where there is no terminal, and never too many of them."""

import io

from rich.console import Console

from opcd_bench.progress import (
    BEATS,
    PlainReporter,
    QuietReporter,
    RichReporter,
    WorkerReporter,
    beat,
    duration,
    reporter,
    shown,
    worker_reporter,
    workers_say,
)


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_lines_come_at_most_every_few_seconds_with_rate_and_time_left():
    out, clock = io.StringIO(), Clock()
    with PlainReporter(out, every=5.0, clock=clock).phase("train", 100, "steps") as phase:
        for _ in range(10):
            clock.now += 1.0
            phase.advance(2, loss=0.25)
    assert out.getvalue().splitlines() == [
        "train 10/100 steps · 2 steps/s · 45 s left · loss=0.25",
        "train 20/100 steps · 2 steps/s · 40 s left · loss=0.25",
        "train: 20 steps in 10 s · loss=0.25",
    ]


def test_a_phase_of_unknown_length_has_no_time_left():
    out, clock = io.StringIO(), Clock()
    with PlainReporter(out, every=1.0, clock=clock).phase("test", None, "samples") as phase:
        clock.now += 4.0
        phase.advance(8)
    assert out.getvalue().splitlines()[0] == "test 8 samples · 2 samples/s"


def test_units_that_were_there_before_do_not_count_as_pace():
    """Resumed at step 80 of 100: the time left is that of 20 steps at today's pace."""
    out, clock = io.StringIO(), Clock()
    with PlainReporter(out, every=5.0, clock=clock).phase("train", 100, "steps", done=80) as phase:
        clock.now += 10.0
        phase.advance(2)
    assert out.getvalue().splitlines()[0] == "train 82/100 steps · 0.2 steps/s · 1 min 30 s left"


def test_long_work_within_a_unit_moves_the_line_of_the_innermost_phase():
    out, clock = io.StringIO(), Clock()
    plain = PlainReporter(out, every=5.0, clock=clock)
    beat(token=1)  # nobody waits
    with plain.phase("train", 2, "steps"):
        with plain.phase("test", None, "samples"):
            clock.now += 6.0
            beat(writing="token 8/64 of 3 responses")
        clock.now += 6.0
        beat(training="0/3 responses")
    assert out.getvalue().splitlines() == [
        "test 0 samples · writing=token 8/64 of 3 responses",
        "test: 6 s · writing=token 8/64 of 3 responses",
        "train 0/2 steps · training=0/3 responses",
        "train: 0 steps in 12 s · training=0/3 responses",
    ]


def test_a_phase_that_counts_nothing_says_its_time_alone():
    out, clock = io.StringIO(), Clock()
    with PlainReporter(out, clock=clock).phase("base on test", None, "samples"):
        clock.now += 1.0
    assert out.getvalue() == "base on test: 1 s\n"


def test_notes_and_warnings_are_lines():
    out = io.StringIO()
    plain = PlainReporter(out)
    plain.note("[bold] is no markup")
    plain.warn("low disk")
    assert out.getvalue() == "[bold] is no markup\nwarning: low disk\n"


def test_a_quiet_reporter_remembers():
    quiet = QuietReporter()
    with quiet.phase("train", 1, "steps") as phase:
        phase.advance(1, loss=0.5)
    quiet.note("a")
    quiet.warn("b")
    assert (quiet.notes, quiet.warnings) == (["a"], ["b"])


def test_bars_nest_and_print_notes_above():
    out = io.StringIO()
    rich = RichReporter(Console(file=out, force_terminal=True, width=100))
    with rich.phase("grid", 2, "cells") as outer:
        with rich.phase("train", 4, "steps") as inner:
            inner.advance(4, loss=0.5)
            rich.note("half way [1/2]")
        outer.advance(1)
        with rich.phase("train", 4, "steps"):
            pass
    assert "half way [1/2]" in out.getvalue()
    assert "grid" in out.getvalue()


def test_a_display_is_left_in_order_when_the_work_is_interrupted():
    rich = RichReporter(Console(file=io.StringIO(), force_terminal=True, width=100))
    try:
        with rich.phase("grid", 2, "cells"), rich.phase("train", 4, "steps"):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert rich._progress is None


def test_plain_lines_are_chosen_where_there_is_no_terminal():
    assert isinstance(reporter(io.StringIO()), PlainReporter)


def test_durations_and_info_are_short():
    assert [duration(s) for s in (0.4, 59, 125, 3720)] == [
        "0 s",
        "59 s",
        "2 min 05 s",
        "1 h 02 min",
    ]
    assert shown({"loss": 0.123456, "step": 3, "kl": 1e-5}) == "loss=0.1235 step=3 kl=1e-05"


def test_workers_say_what_they_are_at_and_their_parent_shows_it(tmp_path, monkeypatch):
    assert workers_say() == {} and type(worker_reporter()) is QuietReporter
    monkeypatch.setenv(BEATS, str(tmp_path))
    assert isinstance(worker_reporter(), WorkerReporter)
    clock = Clock()
    one, other = (WorkerReporter(tmp_path / name, clock) for name in ("1", "2"))
    with one.phase("toy: test", None, "samples") as test, other.phase("toy opcd", 6, "steps"):
        beat(training="3/8 responses")
        test.advance(4)
        assert workers_say() == {
            "now": "toy: test 4 samples; toy opcd 0/6 steps · training=3/8 responses"
        }
        clock.now += 1.0
        test.advance(4)
        assert "4 samples" in workers_say()["now"], "not written more often than it is read"
        clock.now += 2.0
        test.advance(4)
        assert "12 samples" in workers_say()["now"]
    assert workers_say() == {} and not list(tmp_path.iterdir())


def test_a_worker_whose_folder_has_gone_works_on(tmp_path):
    with WorkerReporter(tmp_path / "gone" / "1").phase("toy", 2, "steps") as phase:
        phase.advance(1)
