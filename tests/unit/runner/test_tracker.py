"""Live trackers: off by default, offline without a login, and never a prompt."""

from __future__ import annotations

import sys
import types

import pytest

from opcd_bench.errors import MissingPackage
from opcd_bench.runner import tracker


class FakeWandb(types.ModuleType):
    """Remembers how a run was begun; ``known``: whether somebody is logged in."""

    def __init__(self, known: bool) -> None:
        super().__init__("wandb")
        self.known, self.logged, self.finished = known, [], False

    def login(self, *, prompt: bool) -> bool:
        assert prompt is False
        return self.known

    def init(self, **words):
        self.words = words
        return types.SimpleNamespace(
            log=lambda row, step: self.logged.append((step, row)), finish=self.end
        )

    def end(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)

    def fake(known: bool) -> FakeWandb:
        made = FakeWandb(known)
        monkeypatch.setitem(sys.modules, "wandb", made)
        return made

    return fake


@pytest.mark.parametrize(("known", "mode"), [(False, "offline"), (True, None)])
def test_wandb_is_offline_unless_somebody_is_logged_in(wandb, tmp_path, known, mode):
    made = wandb(known)
    live = tracker.tracker("wandb", tmp_path / "t", "cell", {"a": 1})
    live.log({"step": 3, "divergence": 0.5, "kind": "kl", "skipped": False}, 3)
    live.close()
    assert made.words["mode"] == mode and made.words["config"] == {"a": 1}
    assert made.logged == [(3, {"divergence": 0.5})] and made.finished


def test_a_resumed_cell_goes_on_in_its_own_wandb_run(wandb, tmp_path):
    ids = []
    for name in ("cell", "cell", "other"):
        made = wandb(True)
        tracker.tracker("wandb", tmp_path, name, {})
        ids.append(made.words["id"])
        assert made.words["resume"] == "allow"
    assert ids[0] == ids[1] != ids[2]


def test_the_users_own_mode_is_left_alone(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    made = wandb(False)
    tracker.tracker("wandb", tmp_path, "cell", {})
    assert made.words["mode"] is None


@pytest.mark.parametrize(
    ("report_to", "package"),
    [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard.writer")],
)
def test_a_tracker_that_is_not_installed_says_what_to_type(
    monkeypatch, tmp_path, report_to, package
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=r"pip install 'opcd-bench\[trackers\]'"):
        tracker.tracker(report_to, tmp_path, "cell", {})


def test_no_tracker_is_the_default_and_writes_nothing(tmp_path):
    live = tracker.tracker("none", tmp_path / "t", "cell", {})
    live.log({"divergence": 0.5}, 1)
    live.close()
    assert not (tmp_path / "t").exists()


def test_tensorboard_writes_events_that_it_reads_again(tmp_path):
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is absent"
    )
    live = tracker.tracker("tensorboard", tmp_path / "t", "cell", {})
    live.log({"divergence": 0.5, "kind": "kl"}, 1)
    live.log({"divergence": 0.25}, 2)
    live.close()
    read = events.EventAccumulator(str(tmp_path / "t")).Reload()
    assert [(e.step, e.value) for e in read.Scalars("divergence")] == [(1, 0.5), (2, 0.25)]


def test_the_real_wandb_writes_a_run_without_a_login_or_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is absent")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    live = tracker.tracker("wandb", tmp_path / "t", "cell", {"a": 1})
    live.log({"divergence": 0.5}, 1)
    live.close()
    assert list((tmp_path / "t").rglob("*.wandb"))
