"""Methods and tasks from anywhere: a file by its path, or an installed package's entry point."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from opcd_bench.cli import settings, tasks
from opcd_bench.config.suite import make_suite
from opcd_bench.envs.task import describe_task
from opcd_bench.errors import ConfigError, PluginError, UnknownName
from opcd_bench.runner import entry_points, foreign, grid, plugins, registry
from opcd_bench.runner.contracts import checks
from opcd_bench.runner.plan import plan
from opcd_bench.runner.rounds import chain as chains
from opcd_bench.runner.rounds.chain import Begin

METHOD = '''"""A method of a contributor."""

from opcd_bench import STUDENT, Method, named

METHOD = Method(
    name="mine",
    summary="Reverse KL with a tail bucket.",
    source="a test",
    writer=STUDENT,
    loss=named("rkl_tail", k=16),
)
'''

TASK = '''"""A task of a contributor."""

from opcd_bench.envs.question import DataTask
from opcd_bench.envs.task import Context, Example, Grade

NUMBERS = {"train": range(0, 6), "dev": range(6, 8), "test": range(8, 10)}


class Codes(DataTask):
    """The code of a number."""

    name, version, summary = "codes", 1, "Codes of numbers."

    def context(self):
        return Context("The code of a number is the number plus seven.")

    @classmethod
    def load(cls, data_dir):
        return {s: [Example({"n": n}, reference=str(n + 7)) for n in r] for s, r in NUMBERS.items()}

    def question(self, example):
        return f"Code of {example.content['n']}?"

    def graded(self, example, reply):
        return Grade(float(reply == example.reference), reply, "compared")


TASK = Codes
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with a method and a task in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(METHOD)
    (tmp_path / "codes.py").write_text(TASK)
    return tmp_path


def suite(**values):
    values = {"methods": "opcd,./mine.py", "tasks": "rule_math", **values}
    return settings.make(None, values)


def cells(made):
    return grid.cells(made, *registry.plugins_of(made))


# --- a file by its path -----------------------------------------------------------------------


def test_a_file_is_a_method_with_the_hash_of_its_source(here):
    found = registry.loaded_method("./mine.py")
    assert found.value.name == "mine" and found.value.loss.id == "rkl_tail"
    assert found.origin == ("file", Path("mine.py").absolute()) or found.origin.by == "file"
    assert len(found.value.source_hash) == 10
    assert found.value.describe()["source_hash"] == found.value.source_hash
    assert registry.method("opcd").source_hash is None


def test_a_file_takes_parameters(here):
    assert registry.method("./mine.py[k=4]").name == "mine[k=4]"
    assert registry.method("mine[k=4]", {"mine": "mine.py"}).loss.k == 4
    assert registry.method("./mine.py[k=16]") == registry.method("./mine.py")


def test_a_file_is_a_task_whose_hash_enters_what_describes_it(here):
    task = registry.task("./codes.py", history="last", data_dir=None)
    assert task.examples("test")[0].reference in ("15", "16")
    described = describe_task(task)
    assert described["source_hash"] == type(task).source_hash
    assert "source_hash" not in describe_task(registry.task("rule_math"))


def test_a_moved_file_gives_the_same_run_and_an_edited_one_another(here):
    first = [cell.name for cell in cells(suite(tasks="./codes.py"))]
    (here / "deep").mkdir()
    shutil.move("mine.py", "deep/mine.py")
    shutil.move("codes.py", "deep/codes.py")
    moved = suite(methods="opcd,deep/mine.py", tasks=str(here / "deep/codes.py"))
    assert [cell.name for cell in cells(moved)] == first
    (here / "deep/mine.py").write_text(METHOD.replace("k=16", "k=8"))
    edited = [cell.name for cell in cells(moved)]
    assert edited[0] == first[0] and edited[1] != first[1]
    (here / "deep/codes.py").write_text(TASK.replace("Code of", "The code of"))
    assert cells(moved)[0].name != first[0]


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(here):
    assert registry.method("./mine.py").loss.k == 16
    (here / "mine.py").write_text(METHOD.replace("k=16", "k=17"))
    assert registry.method("./mine.py").loss.k == 17
    assert not (here / "__pycache__").exists()


def test_line_ends_are_no_edit(here):
    before = registry.method("./mine.py")
    (here / "mine.py").write_bytes(METHOD.replace("\n", "\r\n").encode())
    assert registry.method("./mine.py").describe() == before.describe()


def test_a_loss_in_a_file_is_described_by_its_own_source(here):
    (here / "mine.py").write_text(
        '"""A loss of its own."""\n'
        "from opcd_bench import STUDENT, Method\n\n\n"
        "def loss(student, teacher, ids):\n    raise NotImplementedError\n\n\n"
        'METHOD = Method("mine", "Its own.", "a test", STUDENT, loss)\n'
    )
    described = registry.method("./mine.py").describe()
    assert described["loss"]["callable"] == "loss" and described["source_hash"]


def test_the_run_of_a_method_with_parameters_has_a_readable_folder(here):
    made = suite(methods="opcd[k=4],./mine.py[k=4]", learning_rate="1e-4")
    first, second = cells(made)
    assert first.name.startswith("rule_math--opcd-k4--lr1e-04--s0--")
    assert second.name.startswith("rule_math--mine-k4--lr1e-04--s0--")
    assert first.config["method"]["name"] == "opcd[k=4]"


def test_a_parameter_at_its_default_is_the_same_run(here):
    assert [cell.name for cell in cells(suite(methods="opcd[k=256]"))] == [
        cell.name for cell in cells(suite(methods="opcd"))
    ]


def test_a_suite_keeps_what_it_needs_of_the_files_and_no_more(here):
    made = suite(tasks="./codes.py")
    assert (made.methods, made.method_files) == (("opcd", "mine"), {"mine": "mine.py"})
    assert made.task_files == {"codes": "codes.py"}
    (here / "s.toml").write_text('methods = ["./mine.py", "opcd"]\ntasks = ["rule_math"]\n')
    assert registry.suite("s.toml").method_files == {"mine": "mine.py"}
    assert settings.make("s.toml", {"methods": "opcd"}).method_files == {}
    assert settings.make("s.toml", {"methods": "mine[k=4]"}).methods == ("mine[k=4]",)


def test_the_name_of_a_suite_says_nothing_of_where_its_files_lie(here):
    before = suite().name
    shutil.move("mine.py", "there.py")
    (here / "deep").mkdir()
    shutil.move("there.py", "deep/mine.py")
    assert suite(methods="opcd,deep/mine.py").name == before


def test_the_suite_of_a_round_loads_its_file_again(here):
    made = suite(methods="./mine.py[k=4]", tasks="./codes.py", rounds=2, keep_checkpoints="chosen")
    (one,) = chains.chains(made)
    assert one.name.startswith("codes--mine-k4--")
    told = chains.settings(made, one, 1, Begin(), ("prompts/none.txt",))
    assert told.methods == ("mine[k=4]",) and told.method_files == {"mine": "mine.py"}
    assert registry.methods_of(told)["mine[k=4]"].loss.k == 4


def test_a_file_of_the_registrys_own_folder_is_the_method_that_ships(here):
    (shipped,) = (registry.plugin_files(registry.METHODS_PACKAGE)[name] for name in ("opcd",))
    made = suite(methods=str(shipped))
    assert (made.methods, made.method_files) == (("opcd",), {})
    assert registry.method(str(shipped)) == registry.method("opcd")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"methods": "./absent.py"}, "absent.py: there is no such file (looked for /"),
        ({"methods": "./folder/"}, "folder: is no Python file"),
        ({"methods": "./opcd.py"}, "the name 'opcd' is taken by a method that ships"),
        ({"tasks": "./rule_math.py"}, "give the file and its TASK.name another one"),
        ({"methods": "opcd,opcd[k=256]"}, "'opcd[k=256]' is the same method as 'opcd'"),
        ({"methods": "opcd[k=256],opcd[rate=none]"}, "is the same method as 'opcd[k=256]'"),
        ({"methods": "opcd[k=4],opcd[k=4]"}, "a name is there twice: opcd[k=4]"),
        ({"methods": "opdc[k=4]"}, "unknown method 'opdc'. Did you mean 'opsd' or 'opcd'?"),
        ({"methods": "mine"}, "A file is given by its path: ./mine.py"),
        ({"methods": "opcd[k=4"}, "command line: methods: 'opcd[k=4': a bracket has no partner"),
        ({"tasks": "rule_math[k=4]"}, "only methods take parameters"),
    ],
)
def test_a_word_that_names_nothing_is_refused_before_anything_runs(here, words, told):
    (here / "folder").mkdir()
    shutil.copy("mine.py", "opcd.py")
    shutil.copy("codes.py", "rule_math.py")
    with pytest.raises((PluginError, ConfigError, UnknownName)) as caught:
        suite(**words)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 / 0\n", "mine.py: cannot be loaded: ZeroDivisionError"),
        ("def (:\n", "mine.py: cannot be loaded: SyntaxError"),
        ("import nowhere\n", "mine.py: cannot be loaded: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)\n", "mine.py: cannot be loaded: SystemExit: 3"),
        ("raise BaseException('no')\n", "mine.py: cannot be loaded: BaseException: no"),
        ("raise GeneratorExit\n", "mine.py: cannot be loaded: GeneratorExit"),
        ("x = 1\n", "mine.py: has no METHOD"),
        (METHOD.replace('"mine"', '"yours"'), "METHOD.name is 'yours' but the file is 'mine'"),
    ],
)
def test_a_broken_file_is_one_message_that_names_it(here, text, told):
    (here / "mine.py").write_text(text)
    with pytest.raises(PluginError) as caught:
        registry.plugins_of(suite())
    assert told in str(caught.value)


def test_ctrl_c_while_a_file_loads_is_no_fault_of_the_file(here, monkeypatch):
    monkeypatch.setattr(foreign, "tried_file", lambda *_: foreign.Tried(None, None, ()))
    (here / "mine.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        registry.method("./mine.py")


def test_a_suite_that_was_not_settled_says_what_to_write(here):
    made = make_suite({"methods": ["opcd[k=256]"], "tasks": ["rule_math"]}, "a test")
    with pytest.raises(ConfigError, match=r"'opcd\[k=256\]' is 'opcd'; write opcd"):
        registry.plugins_of(made)
    assert registry.settled(made).methods == ("opcd",)


# --- an installed package ---------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts a package with entry points on the path: ``installed("name", methods={…})``."""

    def install(package, *, methods=(), tasks=(), **modules):
        site = tmp_path / f"site-{package}"
        info = site / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        points = ["[opcd_bench.methods]", *methods, "[opcd_bench.tasks]", *tasks]
        (info / "entry_points.txt").write_text("\n".join(points) + "\n")
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    for name in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[name]


def test_a_package_brings_a_method_and_a_task(installed):
    site = installed(
        "their-kit", methods=["mine = their_method"], tasks=["codes = their_task"],
        their_method=METHOD, their_task=TASK,
    )  # fmt: skip
    assert "their_method" not in sys.modules  # listing names asks nothing of the modules
    assert "mine" in registry.known("method") and "their_method" not in sys.modules
    listing = registry.listed_methods()
    assert listing.origins["mine"] == ("their-kit", site / "their_method.py")
    assert listing.origins["opcd"].by == "shipped"
    assert listing.found["mine"].source_hash == registry.method("mine").source_hash is not None
    assert registry.method("mine[k=4]").name == "mine[k=4]"
    assert registry.task("codes").source_hash
    assert registry.listed_tasks().origins["codes"].by == "their-kit"
    made = settings.make(None, {"methods": "mine[k=4],opcd", "tasks": "codes"})
    assert [cell.method for cell in cells(made)] == ["mine[k=4]", "opcd"]


def test_the_same_file_by_path_and_from_a_package_is_the_same_method(installed, here):
    by_path = registry.method("./mine.py")
    installed("their-kit", methods=["mine = their_method"], their_method=METHOD)
    assert registry.method("mine") == by_path


def test_a_broken_plugin_of_a_package_is_named_and_hides_no_other(installed):
    installed(
        "their-kit",
        methods=["sick = their_sick", "gone = their_gone", "other = their_other"],
        their_sick="raise SystemExit(1)\n", their_other=METHOD,
    )  # fmt: skip
    listing = registry.listed_methods()
    told = {name: str(error) for name, error in listing.broken.items()}
    where = "package 'their-kit', module their_"
    assert told["sick"] == f"{where}sick: cannot be loaded: SystemExit: 1"
    assert told["gone"].startswith(f"{where}gone: cannot be loaded: ModuleNotFoundError")
    assert "METHOD.name is 'mine' but the entry point is 'other'" in told["other"]
    assert "opcd" in listing.found


def test_a_clash_of_names_is_an_error_that_names_both(installed, here):
    installed("one-kit", methods=["opcd = their_one", "mine = their_one"], their_one=METHOD)
    installed("two-kit", methods=["mine = their_two"], their_two=METHOD)
    told = {name: str(error) for name, error in registry.listed_methods().broken.items()}
    assert "method 'opcd' is there 2 times: opcd-bench itself (" in told["opcd"]
    assert "package 'one-kit', module their_one" in told["opcd"]
    assert "package 'one-kit', module their_one" in told["mine"]
    assert "package 'two-kit', module their_two" in told["mine"]
    with pytest.raises(PluginError, match="rename its entry point"):
        registry.method("mine")
    with pytest.raises(PluginError, match="the name 'mine' is taken by package"):
        registry.method("./mine.py")


def test_a_package_that_is_there_twice_clashes_with_itself_no_more_than_once(
    installed, monkeypatch
):
    site = installed("their-kit", methods=["mine = their_method"], their_method=METHOD)
    shutil.copytree(site, f"{site}-again")
    monkeypatch.syspath_prepend(f"{site}-again")
    assert len(entry_points.packaged(entry_points.METHODS_GROUP)["mine"]) == 1


# --- the command line -------------------------------------------------------------------------


def test_listings_say_where_plugins_come_from(installed, opcd):
    installed(
        "their-kit", methods=["mine = their_method"], tasks=["codes = their_task"],
        their_method=METHOD, their_task=TASK,
    )  # fmt: skip
    line = next(line for line in opcd("methods").out.splitlines() if line.startswith("mine "))
    assert "their-kit" in line
    rows = {row["name"]: row for row in json.loads(opcd("methods", "--json").out)["methods"]}
    assert (rows["mine"]["origin"], rows["opcd"]["origin"]) == ("their-kit", "shipped")
    assert rows["opcd"]["parameters"]["k"] == 256
    tasks = {row["name"]: row for row in json.loads(opcd("tasks", "--json").out)["tasks"]}
    assert (tasks["codes"]["origin"], tasks["rule_math"]["origin"]) == ("their-kit", "shipped")
    assert tasks["codes"]["sizes"] == {"train": 6, "dev": 2, "test": 2}


def test_methods_of_ones_own_choice_are_listed(here, opcd):
    told = opcd("methods", "opcd[k=4,support=union],./mine.py", "opcd[k=8]", "--json")
    rows = json.loads(told.out)["methods"]
    assert [row["name"] for row in rows] == ["opcd[k=4,support=union]", "mine", "opcd[k=8]"]
    assert rows[0]["support"] == "union = 4, outside: drop"
    assert (rows[1]["origin"], rows[1]["file"]) == ("file", "mine.py")
    assert opcd("methods", "opdc").code == 2


def test_what_plugins_print_spoils_no_json(here, installed, opcd):
    noisy = 'print("hello from the method")\n'
    installed("their-kit", methods=["loud = their_loud"],
              their_loud=METHOD.replace('"mine"', '"loud"') + noisy)  # fmt: skip
    (here / "mine.py").write_text(METHOD + noisy)
    (here / "codes.py").write_text(
        TASK.replace("        return Context(", '        print("told")\n        return Context(')
        + 'print("hello from the task")\n'
    )
    told = opcd("methods", "--json")
    assert "loud" in {row["name"] for row in json.loads(told.out)["methods"]}
    assert "hello from the method" in told.err
    told = opcd("run", "--methods", "./mine.py", "--tasks", "./codes.py", "--dry-run", "--json")
    assert len(json.loads(told.out)["cells"]) == 1
    assert json.loads(opcd("check", "mine.py", "--json").out)["failed"] == 0
    assert json.loads(opcd("check", "codes.py", "--json").out)["failed"] == 0


def test_a_plugin_that_leaves_the_interpreter_is_a_broken_one_for_check_too(here, opcd):
    (here / "mine.py").write_text('"""Leaves."""\nraise SystemExit(0)\n')
    told = opcd("check", "mine.py")
    assert told.code == 1
    assert "loads in a fresh interpreter without torch: does not load: SystemExit: 0" in told.out
    assert "cannot be loaded: SystemExit: 0" in told.out


ENDS = {
    "import os; os._exit(0)": "while it was imported, its process ended (exit code 0)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "its process ended (SIGKILL)",
    "raise KeyboardInterrupt": "importing it raises KeyboardInterrupt",
    "import time; time.sleep(600)": "nothing happened for 5 s",
    "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()": (
        "importing it starts a thread that does not end"
    ),
    "class Own(BaseException): pass\nraise Own('no')": "Own: no",
}
"""Lines at the end of a plugin's module, and what is said of it."""


@pytest.fixture
def soon(monkeypatch):
    """Imports may take five seconds only."""
    monkeypatch.setattr(foreign, "LOAD_SECONDS", 5.0)


@pytest.mark.parametrize("line", ENDS)
def test_a_file_that_hangs_or_ends_its_process_is_a_broken_one(here, opcd, soon, line):
    (here / "mine.py").write_text(f"{METHOD}{line}\n")
    told = opcd("methods", "./mine.py", "opcd", "--json")
    answer = json.loads(told.out)
    assert told.code == 1 and [row["name"] for row in answer["methods"]] == ["opcd"]
    assert ENDS[line] in answer["broken"]["./mine.py"]
    dry = opcd("run", "--methods", "./mine.py", "--tasks", "rule_math", "--dry-run")
    assert dry.code == 2 and ENDS[line] in dry.err


@pytest.mark.parametrize("line", list(ENDS)[:4])
def test_a_package_that_hangs_or_ends_its_process_takes_no_listing_down(
    installed, opcd, soon, line
):
    name = f"their_{list(ENDS).index(line)}"
    installed(
        "their-kit", methods=[f"mine = {name}"], tasks=[f"codes = {name}_task"],
        **{name: f"{METHOD}{line}\n", f"{name}_task": f"{TASK}{line}\n"},
    )  # fmt: skip
    for command, broken in (("methods", "mine"), ("tasks", "codes")):
        told = opcd(command, "--json")
        answer = json.loads(told.out)
        assert told.code == 1 and len(answer[command]) > 5
        assert ENDS[line] in answer["broken"][broken]


ENDS_LATER = {
    "import os; os._exit(0)": "its process ended (exit code 0)",
    "raise KeyboardInterrupt": "it raised KeyboardInterrupt",
    "import time; time.sleep(600)": "nothing happened for 20 s",
}


@pytest.mark.parametrize("line", ENDS_LATER)
def test_check_finds_a_contract_that_hangs_or_ends_its_process(here, line):
    leaving = f"    def question(self, example):\n        {line}\n"
    text = TASK.replace("    def question(self, example):\n", leaving)
    (here / "codes.py").write_text(text)
    *_, last = checks.checked_apart("codes.py", None, 20.0)
    assert not last.passed and ENDS_LATER[line] in last.detail


@pytest.mark.parametrize("line", ENDS_LATER)
def test_a_listing_of_tasks_outlives_one_whose_examples_do_not_come(
    installed, opcd, monkeypatch, line
):
    monkeypatch.setattr(tasks, "LIST_SECONDS", 20.0)
    leaving = f"    def examples(self, split):\n        {line}\n\n    def context"
    name = f"their_later_{list(ENDS_LATER).index(line)}"
    installed(
        "their-kit", tasks=[f"codes = {name}"],
        **{name: TASK.replace("    def context", leaving, 1)},
    )  # fmt: skip
    told = opcd("tasks", "--json")
    answer = json.loads(told.out)
    assert told.code == 1 and "rule_math" in {row["name"] for row in answer["tasks"]}
    assert ENDS_LATER[line] in answer["broken"]["codes"]


@pytest.mark.parametrize("line", ["1 / 0", "raise SystemExit(0)", "class B(BaseException): pass"])
def test_a_run_whose_task_fails_before_any_cell_is_one_message(here, line):
    fails = f"    def examples(self, split):\n        {line}\n        raise B\n\n    def context"
    (here / "codes.py").write_text(TASK.replace("    def context", fails, 1))
    made = suite(methods="opcd", tasks="./codes.py")
    with pytest.raises(PluginError, match=r"codes.py: its code fails: .*opcd-bench check codes.py"):
        plan(made)


GAME = '''"""A game of three turns."""

from opcd_bench import BestPossible, Context, Episode, Example, Grade, Task, Turn


class Guess(Episode):
    def __init__(self):
        self.messages, self.replies, self.done = [{"role": "user", "content": "Which?"}], [], False

    def step(self, reply):
        self.replies.append(reply)
        if len(self.replies) > 3:
            raise RuntimeError("it is over")
        READS
        self.done = len(self.replies) == TURNS
        return Turn(self.messages, self.done)

    def grade(self):
        if not self.done:
            raise RuntimeError("not over yet")
        return Grade(0.0, None, "lost")


class Game(Task):
    name, version, summary, max_turns = "game", 1, "Guesses.", 3

    def examples(self, split):
        return [Example({"question": f"{split}?"})]

    def context(self):
        return Context("It is 3.")

    def open(self, example, seed):
        return Guess()

    def floors(self, examples):
        return []

    def best_possible(self, examples):
        return BestPossible(1.0, "it can be guessed")


TASK = Game
'''


@pytest.mark.parametrize("turns", ["2", "3"])
@pytest.mark.parametrize("reads", ["pass", "assert reply or self.replies[1:], 'says nothing'"])
def test_a_game_that_is_graded_at_its_end_alone_is_played_to_it(here, turns, reads):
    (here / "game.py").write_text(GAME.replace("TURNS", turns).replace("READS", reads))
    plugins.answers(registry.task("./game.py"))


def test_a_game_that_is_not_graded_at_its_end_is_refused(here):
    (here / "game.py").write_text(GAME.replace("TURNS", "4").replace("READS", "pass"))
    with pytest.raises(PluginError, match=r"an episode of train.*not over yet"):
        plugins.answers(registry.task("./game.py"))


def test_what_a_plugin_prints_past_python_spoils_no_json(here):
    line = 'import os, sys; os.write(1, b"raw"); sys.__stdout__.write("under"); os.system("echo x")'
    (here / "mine.py").write_text(f"{METHOD}{line}\n")
    done = subprocess.run(
        [sys.executable, "-m", "opcd_bench", "methods", "./mine.py", "--json"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert [row["name"] for row in json.loads(done.stdout)["methods"]] == ["mine"]
    assert "raw" in done.stderr and "under" in done.stderr


@pytest.mark.parametrize("method", ["__init__", "options", "examples"])
def test_a_task_that_fails_while_it_is_listed_is_a_broken_one(installed, opcd, method):
    leaving = f"    def {method}(self, *_, **__):\n        raise SystemExit(4)\n\n    def context"
    installed(
        "their-kit", tasks=["codes = their_task"],
        their_task=TASK.replace("    def context", leaving, 1),
    )  # fmt: skip
    told = opcd("tasks", "--json")
    assert told.code == 1
    answer = json.loads(told.out)
    assert "rule_math" in {row["name"] for row in answer["tasks"]}
    assert list(answer["broken"]) == ["codes"] and "SystemExit: 4" in answer["broken"]["codes"]


def test_check_refuses_the_name_of_a_packages_method_but_not_the_packages_own_file(
    installed, here, opcd
):
    site = installed("their-kit", methods=["mine = mine"], mine=METHOD)
    told = opcd("check", "mine.py")
    assert "'mine' is taken by package 'their-kit', module mine" in told.out
    assert opcd("check", str(site / "mine.py")).code == 0


def test_listings_and_help_with_a_package_and_a_file_load_no_torch(installed, here):
    site = installed("their-kit", methods=["theirs = their_method"],
                     their_method=METHOD.replace('"mine"', '"theirs"'))  # fmt: skip
    program = textwrap.dedent(
        """
        import sys
        from opcd_bench.cli.main import entry
        words = ["run", "--methods", "theirs[k=4],./mine.py", "--tasks", "./codes.py", "--dry-run"]
        for line in (["--help"], ["methods"], ["methods", "./mine.py"], ["tasks"], words):
            try:
                entry(line)
            except SystemExit as left:
                assert not left.code, (line, left.code)
            assert "torch" not in sys.modules, line
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "theirs[k=4]" in done.stdout and "mine" in done.stdout
