"""The folder is the registry."""

import shutil
import sys
from pathlib import Path

import opcd_bench.baselines
import opcd_bench.tasks
import pytest

from opcd_bench.config import words
from opcd_bench.config.suite import make_suite
from opcd_bench.envs.task import Task
from opcd_bench.errors import ConfigError, PluginError, UnknownName
from opcd_bench.runner import registry

MINE = '''"""A method that a contributor dropped in."""

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import STUDENT, Method

METHOD = Method(
    name="mine",
    summary="Skewed towards the teacher.",
    source="a test",
    writer=STUDENT,
    loss=named("skew_r", alpha=0.1),
)
'''

TASK = '''"""A task that a contributor dropped in."""

from opcd_bench.envs.task import BestPossible, Context, Task


class Mine(Task):
    """Takes a history, and no data folder."""

    name, version, summary = "mine", 1, "A test's."

    def __init__(self, history="last"):
        self.history = history

    def options(self):
        """What its numbers depend on."""
        return {"history": self.history}

    def context(self):
        """What is told."""
        return Context("told")

    def examples(self, split):
        """None."""
        return []

    def open(self, example, seed):
        """Never."""
        raise NotImplementedError

    def floors(self, examples):
        """None."""
        return []

    def best_possible(self, examples):
        """Known."""
        return BestPossible(1.0, "a test")


TASK = Mine
'''


def drop(package, monkeypatch, folder, **files):
    """Put files into a copy of a plugin folder, and the copy in the package's place."""
    copied = folder / package.__name__.split(".")[-1]
    shutil.copytree(Path(package.__path__[0]), copied, ignore=shutil.ignore_patterns("__pycache__"))
    for stem, text in files.items():
        (copied / f"{stem}.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [str(copied)])
    before = {name for name in sys.modules if name.startswith(f"{package.__name__}.")}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    return copied


@pytest.fixture(autouse=True)
def no_trace_of_dropped_plugins():
    yield
    for name in [
        n for n in sys.modules if n.startswith(("opcd_bench.baselines.", "opcd_bench.tasks."))
    ]:
        del sys.modules[name]


def test_every_baseline_of_the_design_is_registered():
    names = set(registry.methods())
    assert names >= {
        "sft_context", "forward_kl", "opcd", "opcd_full", "opcd_stop_gradient", "opcd_tail",
        "opcd_renorm", "opcd_hybrid", "forward_kl_on_policy", "reverse_kl_off_policy", "jsd",
        "control_null", "control_shuffled", "control_k1", "control_constant", "opcd_full_leak",
        "opsd", "sdft_ema", "opcd_live", "taid", "grpo", "sft_then_opcd", "sft_kl",
        "forward_kl_larger",
    }  # fmt: skip
    controls = {name for name, method in registry.methods().items() if method.control}
    assert controls == {
        "control_null", "control_shuffled", "control_k1", "control_constant", "opcd_full_leak",
    }  # fmt: skip


def test_a_method_dropped_into_the_folder_is_found_without_touching_another_file(
    monkeypatch, tmp_path
):
    drop(opcd_bench.baselines, monkeypatch, tmp_path, mine=MINE)
    assert registry.method("mine").loss.id == "skew_r"
    assert "mine" in registry.methods()
    assert len(MINE.splitlines()) <= 20


def test_files_that_start_with_an_underscore_are_no_plugins(monkeypatch, tmp_path):
    drop(opcd_bench.baselines, monkeypatch, tmp_path, _helper="1 / 0\n")
    listing = registry.listed_methods()
    assert "_helper" not in listing.found
    assert listing.broken == {}


def test_a_broken_plugin_is_named_with_its_reason_and_hides_no_other(monkeypatch, tmp_path):
    folder = drop(opcd_bench.baselines, monkeypatch, tmp_path, sick="1 / 0\n")
    listing = registry.listed_methods()
    assert "opcd" in listing.found
    assert list(listing.broken) == ["sick"]
    assert f"{folder / 'sick.py'}" in str(listing.broken["sick"])
    assert "ZeroDivisionError: division by zero" in str(listing.broken["sick"])
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        registry.method("sick")
    assert registry.method("opcd").name == "opcd"  # only what is needed is loaded


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("def (:\n", "SyntaxError"),
        ("x = 1\n", "has no METHOD"),
        ("METHOD = 7\n", "METHOD is a int"),
        (MINE.replace('name="mine"', 'name="other"'), "METHOD.name is 'other'"),
        (MINE.replace("alpha=0.1", "alpha=2.0"), "InvalidLoss"),
        (
            MINE.replace('named("skew_r", alpha=0.1)', 'named("k1_loss", allow_broken=True)'),
            "write control=True",
        ),
    ],
)
def test_each_fault_of_a_method_file_has_its_reason(monkeypatch, tmp_path, text, reason):
    drop(opcd_bench.baselines, monkeypatch, tmp_path, mine=text)
    with pytest.raises(PluginError) as caught:
        registry.method("mine")
    assert reason in str(caught.value)
    assert "mine.py" in str(caught.value)


def test_a_task_is_built_with_the_options_that_its_constructor_takes(monkeypatch, tmp_path):
    drop(opcd_bench.tasks, monkeypatch, tmp_path, mine=TASK)
    task = registry.task("mine", history="full", data_dir="/nowhere")
    assert task.options() == {"history": "full"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TASK.replace("    def floors", "    def stairs"), "does not define floors"),
        (TASK.replace("TASK = Mine", "TASK = Mine()"), "a subclass of Task"),
        (TASK.replace('summary = "mine", 1, "A test\'s."', "_ = 'mine', 1, 0"), "summary"),
        (TASK.replace('"mine", 1', '"other", 1'), "TASK.name is 'other'"),
        (TASK.replace("self.history = history", "1 / 0"), "ZeroDivisionError"),
    ],
)
def test_each_fault_of_a_task_file_has_its_reason(monkeypatch, tmp_path, text, reason):
    drop(opcd_bench.tasks, monkeypatch, tmp_path, mine=text)
    with pytest.raises(PluginError) as caught:
        registry.task("mine")
    assert reason in str(caught.value)
    assert "mine.py" in str(caught.value)


def test_a_constructor_that_takes_anything_gets_every_option():
    class Open(Task):
        name, version, summary = "open", 1, "A test's."

        def __init__(self, **options):
            self.given = options

        context = examples = open = floors = best_possible = None

    assert registry.build_task(Open, history="full", data_dir="x").given == {
        "history": "full",
        "data_dir": "x",
    }


def test_a_near_name_is_suggested():
    with pytest.raises(UnknownName, match="Did you mean 'opsd' or 'opcd'"):
        registry.method("opdc")
    with pytest.raises(UnknownName, match="Did you mean 'frozen_lake'"):
        registry.task("frozenlake")
    with pytest.raises(UnknownName, match="Did you mean 'quick'"):
        registry.suite("quik")


def test_every_suite_that_ships_can_be_read_and_names_known_plugins():
    for name in registry.suites():
        suite = registry.suite(name)
        assert suite.name == name
        assert suite.summary
        assert {words.parse(one).name for one in suite.methods} <= set(registry.methods())


def test_a_suite_file_is_named_after_itself_and_overridden_by_settings(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('methods = ["opcd"]\ntasks = ["rule_math"]\nseeds = 2\n')
    assert registry.suite(file).name == "mine"
    assert registry.suite(str(file), {"seeds": 5}).seeds == 5


def test_a_suite_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        registry.suite(tmp_path / "absent.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes('summary = "für"\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.toml: not UTF-8 \(byte 12\)"):
        registry.suite(latin)
    bad = tmp_path / "bad.toml"
    bad.write_text("methods = [\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        registry.suite(bad)


def test_the_arms_of_claims_have_canonical_names_and_name_something():
    claim = {"text": "So.", "first": "opcd[k=256] on rule_math", "second": "base on rule_math"}
    given = {"methods": "opcd", "tasks": "rule_math"}
    made = registry.settled(make_suite({**given, "claims": [claim]}, "here"))
    assert made.claims[0].first == "opcd on rule_math"
    assert made.claims[0].second == "base on rule_math"
    for wrong in ("opdc on rule_math", "opcd on rule_mat", "opcd[kk=1] on rule_math"):
        with pytest.raises((UnknownName, ConfigError)):
            registry.settled(make_suite({**given, "claims": [{**claim, "first": wrong}]}, "here"))
