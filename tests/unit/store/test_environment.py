"""What is told of the place where a number was made."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from opcd_bench.store import environment
from opcd_bench.store.environment import commit, describe, differences, rounded_otherwise


def test_the_environment_is_json_with_machine_versions_and_the_callers_words() -> None:
    found = describe({"name": "micro"}, "cpu")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["model"] == {"name": "micro"} and found["device"] == "cpu"
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"].startswith("2.")
    assert found["machine"]["cores"] >= 1 and found["machine"]["memory_gib"] > 0


def test_describing_imports_no_torch() -> None:
    code = (
        "import sys; from opcd_bench.store import environment, run_dir; environment.describe();"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_variables_that_move_numbers_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = describe()
    assert found["variables"]["OMP_NUM_THREADS"] == "3"
    assert found["variables"]["HF_HUB_OFFLINE"] is None
    assert "secret" not in json.dumps(found)


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("opcd-bench", "no-such-package"))
    assert describe()["versions"]["no-such-package"] is None


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_commit_and_dirtiness_follow_the_sources_and_not_the_results(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "opcd.py").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run").write_text("a result is no source")
    assert commit(tmp_path) == {"commit": head, "dirty": False}
    (tmp_path / "baselines" / "mine.py").write_text("a method that git does not know")
    assert commit(tmp_path) == {"commit": head, "dirty": True}


@pytest.mark.parametrize("kind", ["no tree", "empty tree", "broken tree", "no git"])
def test_what_git_cannot_say_is_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "empty tree":
        git(tmp_path, "init", "-q")
    if kind in ("broken tree", "no git"):
        (tmp_path / ".git").write_text("gitdir: /nowhere")
    if kind == "no git":
        monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) == {"commit": None, "dirty": None}


def test_differences_name_every_leaf_that_differs() -> None:
    before = {"device": "cpu", "versions": {"torch": "2.12", "numpy": "2"}, "gone": 1, "n": [1]}
    after = {"device": "cpu", "versions": {"torch": "2.13", "numpy": "2"}, "new": {}, "n": [2]}
    assert differences(before, after) == [
        "gone: 1 -> (absent)",
        "n: [1] -> [2]",
        "new: (absent) -> {}",
        'versions.torch: "2.12" -> "2.13"',
    ]
    assert differences(before, before) == []


def test_what_moves_last_digits_is_told_from_what_does_not() -> None:
    before = describe(device="cpu", computing={"threads": 2, "batch": 8})
    after = describe(device="cuda:0", computing={"threads": 4, "batch": 8})
    after["machine"] = {**after["machine"], "memory_gib": 1.0}
    after["versions"] = {**after["versions"], "torch": "9.9", "vllm": "1.0"}
    before["versions"] = {**before["versions"], "vllm": None}
    found = rounded_otherwise(differences(before, after))
    assert [line.partition(":")[0] for line in found] == [
        "computing.threads", "device", "versions.torch",
    ]  # fmt: skip
    old = {key: value for key, value in before.items() if key != "computing"}
    assert rounded_otherwise(differences(old, before)) == [], "older runs did not store it"
