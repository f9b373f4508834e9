"""A user's data at the command line: names, credentials, control codes, and what verify tells."""

import json
import shutil

import pytest

from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SuiteDir

QUICK = ("run", "--methods", "opcd", "--tasks", "rule_math", "--jobs", "1", "--dry-run")
URL = "http://anna:s3cret@host:8000/v1?api_key=s3cret"


@pytest.fixture
def stored(tmp_path):
    """results/quick with one sealed and one failed run; the reason comes from elsewhere."""
    suite = SuiteDir(tmp_path / "results" / "quick")
    suite.merge({"methods": ["opcd"], "tasks": ["toy"]})
    settings = {"method": {"name": "opcd"}, "task": {"name": "toy"}, "text": "\x1b[2Jx"}
    with RunDir.open(suite.run("done"), settings, {}) as run:
        run.train({"step": 1, "loss": 0.5})
        run.seal({"rule": "the \x1b[31mlast"})
    with RunDir.open(suite.run("failed"), settings, {}) as run:
        run.fail(f"\x1b]0;title\x07 {URL} refused", f"Traceback … {URL}")
    return suite


@pytest.mark.parametrize(
    "name", ["../../x", "", "/tmp/x", "a/b", "a\nb", "\x1b[2J", ".", "..", "-", "a" * 300]
)
def test_a_suites_name_leads_nowhere_else(opcd, tmp_path, name):
    told = opcd(*QUICK, f"--name={name}")
    assert told.code == 2 and "name" in told.err and "Traceback" not in told.err
    assert "\x1b" not in told.err and not list(tmp_path.iterdir())


def test_a_name_in_a_file_is_checked_as_one_on_the_command_line_is(opcd, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'name = "../x"\nmethods = ["opcd"]\ntasks = ["rule_math"]\n'
    )
    told = opcd("run", "--suite", tmp_path / "mine.toml", "--dry-run")
    assert told.code == 2 and "'../x' cannot name a file or a folder" in told.err


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_servers_credentials_are_not_printed(opcd, words):
    told = opcd(*QUICK, "--engine", "vllm", "--vllm-url", URL, *words)
    assert told.code == 0 and "s3cret" not in told.out + told.err
    refused = opcd(*QUICK, "--vllm-url", URL)
    assert refused.code == 2 and "s3cret" not in refused.err


def test_what_others_wrote_reaches_the_terminal_without_control_codes_or_credentials(opcd, stored):
    for path in (stored.run("failed"), stored.run("done")):
        for words in ((), ("--json",)):
            told = opcd("show", path, *words)
            assert told.code == 0 and "s3cret" not in told.out
            assert not [mark for mark in told.out if ord(mark) < 32 and mark != "\n"]
    assert "\\x1b[31mlast" in opcd("show", stored.run("done")).out
    kept = "".join(path.read_text() for path in stored.run("failed").glob("*.json*"))
    assert "s3cret" not in kept and "host:8000" in kept


def test_verify_takes_a_run_a_suite_and_a_folder_of_suites(opcd, stored):
    for path in ("quick", stored.path, stored.path.parent, stored.run("done")):
        told = opcd("verify", path)
        assert told.code == 0 and "every checksum holds" in told.out, told
    (stored.run("done") / "config.json").unlink()
    for path in (stored.path, stored.path.parent, stored.run("done")):
        told = opcd("verify", path)
        assert told.code == 1 and "config.json: missing" in told.out
    shutil.rmtree(stored.run("done"))
    told = opcd("verify", stored.path.parent, "--json")
    found = json.loads(told.out)
    assert told.code == 1 and found["damaged"] == 1
    assert {one["kind"] for one in found["problems"]} == {"missing", "failed"}


def test_verify_refuses_a_folder_without_anything_of_ours(opcd, tmp_path):
    (tmp_path / "mine").mkdir()
    told = opcd("verify", tmp_path / "mine")
    assert told.code == 2 and "neither a run" in told.err


def test_what_is_left_to_type_after_ctrl_c_has_no_credentials(opcd, monkeypatch):
    def interrupted(suite, *, console):
        raise KeyboardInterrupt

    monkeypatch.setattr("opcd_bench.cli.run.any_suite.run", interrupted)
    told = opcd(*QUICK[:-1], "--engine", "vllm", "--vllm-url", URL)
    assert told.code == 130 and "***@host:8000" in told.err and "s3cret" not in told.err
