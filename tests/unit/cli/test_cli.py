"""The command line: what it prints, on which stream, and with which exit code."""

import io
import json
import shlex
import shutil
import sys
import types
from pathlib import Path

import opcd_bench.baselines
import pytest
from small_data import write_gsm8k

from opcd_bench.cli import settings, suites
from opcd_bench.errors import ConfigError, StoreError
from opcd_bench.models.micro import recipe
from opcd_bench.report.tables import stored
from opcd_bench.runner import registry
from opcd_bench.store.jsonl import unzipped, zipped
from opcd_bench.version import __version__

THE_ISSUES = [
    "run", "--methods", "sft_context,forward_kl,opcd,opcd_stop_gradient",
    "--tasks", "rule_math,frozen_lake", "--seeds", "2",
]  # fmt: skip


@pytest.fixture
def runner(monkeypatch):
    """A runner that runs nothing: it records what it was asked for."""
    fake = types.ModuleType("opcd_bench.runner.suite_runner")
    fake.asked = []
    fake.summary = types.SimpleNamespace(
        suite_dir=Path("results/x"), done=4, failed=0, total=4, unscored=0
    )

    def run(suite, *, console):
        fake.asked.append(suite)
        return fake.summary

    fake.run = run
    monkeypatch.setitem(sys.modules, "opcd_bench.runner.suite_runner", fake)
    monkeypatch.setattr("opcd_bench.runner.suite_runner", fake, raising=False)
    monkeypatch.setattr(stored, "text_of", lambda *_, **__: "the table")
    return fake


def dropped(monkeypatch, tmp_path, **files):
    """A copy of baselines/ with more files in it, in the package's place."""
    folder = tmp_path / "baselines"
    shutil.copytree(Path(opcd_bench.baselines.__path__[0]), folder)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(text)
    monkeypatch.setattr(opcd_bench.baselines, "__path__", [str(folder)])


# --- listings ---------------------------------------------------------------------------------


def test_the_version_is_printed(opcd):
    assert opcd("--version").out == f"opcd-bench {__version__}\n"


def test_without_a_word_the_subcommands_are_listed(opcd):
    told = opcd()
    for name in ("run", "methods", "tasks", "suites", "show", "verify", "check", "new", "audit",
                 "doctor", "micro"):  # fmt: skip
        assert name in told.out + told.err


def test_methods_are_listed_with_their_choices(opcd):
    told = opcd("methods")
    assert told.code == 0
    line = next(line for line in told.out.splitlines() if line.startswith("opcd "))
    for word in (
        "opcd student ", "rkl_trunc_naive", "student top k = 256", "initial, reads context",
        "arXiv:2602.12275",
    ):  # fmt: skip
        assert word in " ".join(line.split())
    rows = {row["name"]: row for row in json.loads(opcd("methods", "--json").out)["methods"]}
    assert rows["opcd"]["describe"]["loss"]["k"] == 256
    assert rows["control_null"]["control"] is True


def test_tasks_are_listed_with_version_and_sizes(opcd):
    rows = {row["name"]: row for row in json.loads(opcd("tasks", "--json").out)["tasks"]}
    assert set(rows["frozen_lake"]["sizes"]) == {"train", "dev", "test"}
    assert rows["frozen_lake"]["sizes"]["test"] >= 300
    assert rows["frozen_lake"]["version"] >= 1
    assert "frozen_lake" in opcd("tasks").out


def test_a_task_whose_data_are_on_the_hub_is_listed_without_asking_for_them(
    opcd, monkeypatch, tmp_path
):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    told = opcd("tasks")
    assert told.code == 0
    assert "from a folder with --data-dir: dapo_math, gsm8k, medmcqa, safety" in told.out
    write_gsm8k(tmp_path)
    rows = {
        row["name"]: row
        for row in json.loads(opcd("tasks", "--json", "--data-dir", str(tmp_path)).out)["tasks"]
    }
    assert rows["gsm8k"]["sizes"] == {"train": 15, "dev": 45, "test": 20}
    assert (rows["gsm8k"]["missing"], rows["gsm8k"]["on_hub"]) == (None, False)
    assert rows["medmcqa"]["on_hub"] and "hf download" in rows["medmcqa"]["missing"]
    (tmp_path / "medmcqa").mkdir()
    (tmp_path / "medmcqa" / "train.jsonl").write_text("{")
    (tmp_path / "medmcqa" / "validation.jsonl").write_text("{}")
    told = opcd("tasks", "--data-dir", str(tmp_path))
    assert "--data-dir: dapo_math, safety\n" in told.out
    assert "train.jsonl, line 1: not valid JSON" in told.out


def test_a_task_by_name_shows_its_context_and_a_prompt_without_and_with_it(opcd):
    task = registry.task("rule_math")
    example = task.examples("test")[0]
    (question,) = task.open(example, 0).messages
    told = opcd("tasks", "rule_math")
    assert told.code == 0 and "train 2,000, dev 300, test 500 examples; one turn" in told.out
    assert told.out.count(task.context().text) == 1
    prompts = told.out.split("--- first test prompt, without context\n")[1]
    without, within = prompts.split("\n\n--- the same, with context\n")
    assert without == f"[user] {question['content']}"
    assert within.strip() == f"[system] (the context above)\n{without}"
    (row,) = json.loads(opcd("tasks", "rule_math", "--json").out)["tasks"]
    assert row["prompt"] == [question]
    assert row["prompt_with_context"] == task.context().tell([question])


def test_a_task_by_name_may_be_a_file_lack_data_or_tell_nothing(opcd, tmp_path):
    opcd("new", "task", "mine")
    told = opcd("tasks", "./mine.py", "gsm8k", "told_other")
    assert told.code == 0, told.err
    assert "; file: " in told.out
    assert "from a folder with --data-dir: gsm8k\n" in told.out
    assert told.out.count("--- context (placement: ") == 2
    assert told.out.count("--- the same, with context") == 1


def test_a_suite_by_name_shows_settings_sizes_and_claims(opcd):
    told = opcd("suites", "faces_topk", "quick")
    assert told.code == 0
    topk, quick = told.out.split("\n\nquick: ")
    assert "  max_steps = 150\n" in topk and "\n--size smoke: as above, but for\n" in topk
    assert "\nclaims.0: At k = 4 the naive truncation ends below its stop-gradient.\n" in topk
    assert "accuracy: opcd[k=4] on rule_math below opcd_stop_gradient[k=4] on rule_math" in topk
    assert quick.endswith("All other settings: their defaults (opcd-bench settings)\n")
    assert "  learning_rate = [0.001]\n" in quick and "warmup_steps" not in quick
    assert [one["name"] for one in json.loads(opcd("suites", "quick", "--json").out)["suites"]] == [
        "quick"
    ]


def test_suites_are_listed_with_their_cells(opcd):
    rows = {row["name"]: row for row in json.loads(opcd("suites", "--json").out)["suites"]}
    assert rows["quick"]["cells"] == len(rows["quick"]["methods"]) * len(rows["quick"]["tasks"])
    assert "micro" in opcd("suites").out


def test_a_broken_method_is_shown_with_its_reason_and_the_others_are_still_listed(
    opcd, monkeypatch, tmp_path
):
    dropped(monkeypatch, tmp_path, sick="1 / 0\n")
    told = opcd("methods")
    assert told.code == 1
    assert "opcd_full" in told.out
    assert "broken: sick:" in told.err and "ZeroDivisionError" in told.err
    assert "sick" in json.loads(opcd("methods", "--json").out)["broken"]


# --- run --------------------------------------------------------------------------------------


def test_the_issues_command_names_its_cells(opcd):
    told = opcd(*THE_ISSUES, "--dry-run", "--json")
    assert told.code == 0
    answer = json.loads(told.out)
    assert len(answer["cells"]) == 4 * 2 * 2 * len(answer["suite"]["learning_rate"])
    assert answer["suite"]["name"].startswith("custom-")
    assert [cell["method"] for cell in answer["cells"][:4]] == THE_ISSUES[2].split(",")
    table = opcd(*THE_ISSUES, "--dry-run").out
    assert answer["cells"][0]["name"] in table


def test_a_dry_run_writes_nothing(opcd, tmp_path):
    opcd(*THE_ISSUES, "--dry-run")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_prints_its_table_and_exits_with_0(opcd, runner):
    told = opcd(*THE_ISSUES)
    assert told.code == 0
    assert "the table" in told.out and "4 of 4 cells done, 0 failed" in told.out
    assert runner.asked[0].seeds == 2
    assert json.loads(opcd(*THE_ISSUES, "--json").out)["done"] == 4


def test_a_failed_cell_gives_exit_code_1(opcd, runner):
    runner.summary.done, runner.summary.failed = 3, 1
    told = opcd(*THE_ISSUES)
    assert told.code == 1
    assert "3 of 4 cells done, 1 failed" in told.out


def test_a_run_that_could_not_be_interpolated_gives_exit_code_1(opcd, runner):
    runner.summary.unscored = 1
    assert opcd(*THE_ISSUES).code == 1


def test_an_interrupted_run_says_how_to_go_on_and_exits_with_130(opcd, runner):
    def run(suite, *, console):
        raise KeyboardInterrupt

    runner.run = run
    told = opcd(*THE_ISSUES, "--set", "summary=two words")
    assert told.code == 130
    assert f"opcd-bench {' '.join(THE_ISSUES)} --set 'summary=two words'" in told.err
    assert "Traceback" not in told.err


def test_an_error_of_the_user_is_one_message_and_one_of_ours_keeps_its_traceback(opcd, runner):
    def refuse(suite, *, console):
        raise StoreError("results/x: dirty")

    runner.run = refuse
    told = opcd(*THE_ISSUES)
    shared = "opcd-bench: no --suite is given, so all other settings are those of quick\n"
    said = f"{shared}opcd-bench: results/x: dirty\n"
    assert (told.code, told.err, told.out) == (2, said, "")

    def fail(suite, *, console):
        raise RuntimeError("a bug")

    runner.run = fail
    with pytest.raises(RuntimeError, match="a bug"):
        opcd(*THE_ISSUES)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--suite", "quik"], "unknown suite 'quik'. Did you mean 'quick'?"),
        (
            ["--suite", "quick", "--methods", "opdc"],
            "unknown method 'opdc'. Did you mean 'opsd' or 'opcd'?",
        ),
        (
            ["--methods", "opcd", "--tasks", "frozenlake"],
            "Did you mean 'frozen_lake' or 'frozen_lake_paper'?",
        ),
        (["--suite", "quick", "--seeds", "0"], "seeds: must be 1 or more"),
        (["--suite", "quick", "--set", "batch_sise=4"], "Did you mean 'batch_size'"),
        (["--suite", "quick", "--set", "batch_size"], "write --set key=value"),
        (["--suite", "quick", "--set", "bf16=True"], "bf16: must be true or false"),
        (["--suite", "quick", "--learning-rate", "fast"], "'fast' is no number"),
        (["--suite", "quick", "--history", "none"], "history: must be 'last' or 'full'"),
        (["--suite", "absent.toml"], "absent.toml: cannot be read: No such file"),
        (["--suite", "latin.toml"], "latin.toml: not UTF-8 (byte 12)"),
        (["--suite", "key.toml"], "sedes: no such setting; did you mean 'seeds'?"),
        ([], "nothing to run; name a suite"),
        (["--suite", "quick", "--methods", "opcd,opcd"], "a name is there twice"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(opcd, tmp_path, words, told):
    (tmp_path / "latin.toml").write_bytes('summary = "für"\n'.encode("latin-1"))
    (tmp_path / "key.toml").write_text('methods = ["opcd"]\ntasks = ["frozen_lake"]\nsedes = 1\n')
    before = sorted(tmp_path.iterdir())
    answer = opcd("run", *words, "--dry-run")
    assert answer.code == 2
    assert told in answer.err
    assert answer.err.startswith("opcd-bench: ") and answer.out == ""
    assert "Traceback" not in answer.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_method_that_does_not_load_stops_only_a_run_that_needs_it(opcd, monkeypatch, tmp_path):
    dropped(monkeypatch, tmp_path, sick="1 / 0\n")
    words = ["run", "--tasks", "frozen_lake", "--dry-run", "--methods"]
    assert opcd(*words, "opcd").code == 0
    told = opcd(*words, "opcd,sick")
    assert told.code == 2 and "sick.py" in told.err and "ZeroDivisionError" in told.err


# --- from words to a suite --------------------------------------------------------------------


def test_a_suite_without_words_is_itself():
    made = settings.make("quick", {})
    assert len(made.model_weights) == 64  # of the built-in model
    assert made.model_copy(update={"model_weights": None}) == registry.suite("quick")


def test_runtime_words_and_a_larger_grid_keep_the_suites_folder():
    words = {"output_dir": "elsewhere", "seeds": 3, "methods": "opcd", "tasks": "frozen_lake"}
    made = settings.make("quick", words)
    assert (made.name, made.seeds, made.output_dir) == ("quick", 3, "elsewhere")


def test_a_suite_narrowed_to_one_task_drops_the_others_own_settings_and_keeps_its_folder():
    made = settings.make("micro", {"tasks": "rule_math"})
    assert made.task_settings == {} and made.name == "micro"
    assert made.for_task("rule_math").shared_identity() == (
        settings.make("micro", {}).for_task("rule_math").shared_identity()
    )


def test_other_shared_settings_get_a_folder_of_their_own_that_repeats():
    made = settings.make("quick", {"max_steps": 33, "tasks": "frozen_lake"})
    assert made.name.startswith("quick-")
    assert made == settings.make("quick", {"max_steps": 33, "tasks": "frozen_lake"})
    assert settings.make("quick", {"max_steps": 33, "name": "mine"}).name == "mine"


def test_assignments_take_toml_values_and_bare_words():
    assert settings.assigned(
        ["bf16=true", "learning_rate = [1e-4, 1e-3]", "model=Qwen/Qwen3-0.6B", "choose=20",
         "retention_items=none", "report_to=none"]
    ) == {
        "bf16": True, "learning_rate": [1e-4, 1e-3], "model": "Qwen/Qwen3-0.6B", "choose": 20,
        "retention_items": None, "report_to": "none",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("entrants.a=./missing", """'entrants={a = "./missing"}'"""),
        ('entrants.a="./missing"', """'entrants={a = "./missing"}'"""),
        ("experience.items=3", "'experience={items = 3}'"),
        ("vllm_options.enforce_eager=true", "'vllm_options={enforce_eager = true}'"),
    ],
)
def test_a_key_of_a_table_is_answered_by_what_can_be_typed(typed, whole):
    with pytest.raises(ConfigError) as error:
        settings.assigned([typed])
    assert str(error.value).endswith(f"a table is given whole: --set {whole}")
    table, _, inside = typed.partition("=")[0].partition(".")
    (word,) = shlex.split(whole)
    assert list(settings.assigned([word])[table]) == [inside]


def test_a_vllm_of_ours_has_the_machine_for_itself_where_nobody_gives_jobs():
    assert settings.make("quick", {}).jobs == 2
    for asked in ({"engine": "vllm"}, {"processes": 2}):
        assert settings.make("quick", asked).jobs == 1
    assert settings.make("quick", {}, ["teacher_engine=vllm"]).jobs == 1
    served = {"teacher_url": "http://127.0.0.1:1"}
    assert settings.make("quick", served, ["teacher_engine=vllm"]).jobs == 2
    with pytest.raises(ConfigError, match="with jobs = 2, several processes would share one vLLM"):
        settings.make("quick", {"engine": "vllm", "jobs": 2})


def test_rates_without_the_headline_rate_run_with_all_seeds(tmp_path):
    file = tmp_path / "swept.toml"
    least = 'methods = ["opcd"]\ntasks = ["rule_math"]\nlearning_rate = [1e-5, 1e-4]\nseeds = 3\n'
    file.write_text(f"{least}headline_learning_rate = 1e-4\nsweep_seeds = 1\n")
    made = settings.make(str(file), {"learning_rate": "7e-5"})
    assert made.learning_rate == (7e-5,)
    assert made.headline_learning_rate is None and made.sweep_seeds is None
    kept = settings.make(str(file), {"learning_rate": "1e-4,7e-5"})
    assert (kept.headline_learning_rate, kept.sweep_seeds) == (1e-4, 1)
    file.write_text(f'{least}headline_learning_rate = "dev"\nsweep_seeds = 1\n')
    chosen = settings.make(str(file), {"learning_rate": "7e-5,3e-4"})
    assert (chosen.headline_learning_rate, chosen.sweep_seeds) == ("dev", 1)
    assert suites.cell_count(chosen) == 2 * 1 + 2


def test_no_retention_is_said_by_none():
    assert settings.make("quick", {"retention": "none", "tasks": "frozen_lake"}).retention == ()


def test_neither_methods_nor_tasks_nor_a_suite_is_nothing_to_run():
    with pytest.raises(ConfigError, match="nothing to run"):
        settings.make(None, {"seeds": 3})


# --- files of one's own -----------------------------------------------------------------------


def test_a_file_that_breaks_its_contract_gives_exit_code_1(opcd, tmp_path):
    (tmp_path / "mine.py").write_text('"""Nothing."""\nimport torch\nMETHOD = 3\n')
    told = opcd("check", "mine.py")
    assert told.code == 1
    assert "FAIL  imports nothing heavy and no other plugin: line 2 imports torch" in told.out
    answer = json.loads(opcd("check", "mine.py", "--json").out)
    assert answer["failed"] == sum(not r["passed"] for r in answer["results"]) > 0


def test_a_file_that_python_cannot_read_is_one_line_that_failed(opcd, tmp_path):
    (tmp_path / "syn.py").write_text('"""Nothing."""\nMETHOD = (\n')
    told = opcd("check", "syn.py")
    assert told.code == 1 and told.err == ""
    said = "loads, and holds a METHOD or a TASK of the file's name"
    assert told.out == (
        f"FAIL  {said}: SyntaxError: '(' was never closed (syn.py, line 2)\n"
        "\nsyn.py: 0 of 1 contracts kept\n"
    )


def test_a_file_that_is_not_there_is_an_error_of_the_user(opcd):
    assert opcd("check", "absent.py").code == 2


# --- results ----------------------------------------------------------------------------------


def test_a_run_that_is_not_there_is_named(opcd, tmp_path):
    told = opcd("show", "results/none")
    assert told.code == 2 and "unknown run or suite 'results/none'" in told.err
    (tmp_path / "empty").mkdir()
    assert "neither a run" in opcd("show", "empty").err
    assert opcd("verify", "empty").code == 2


def suite_with_a_run(root, suite="mine", seed=0):
    """A suite folder with one unfinished run, written by the store itself."""
    from opcd_bench.store.run_dir import RunDir
    from opcd_bench.store.suite_dir import SuiteDir

    folder = SuiteDir(root / suite)
    folder.merge({"name": suite})
    config = {"learning_rate": 1e-4, "seed": seed, "task": {"name": "t"}, "method": {"name": "m"}}
    with RunDir.open(folder.run(f"t--m--lr1e-04--s{seed}--abc"), config, {}) as run:
        run.train({"step": 1, "divergence": 0.5})
        run.eval({"step": 0, "task": "t", "split": "dev", "metric": "accuracy", "value": 0.25,
                  "n": 8, "n_unscored": 0})  # fmt: skip
    return folder


def test_a_run_is_shown_by_path_by_name_and_by_the_start_of_its_name(opcd, tmp_path):
    folder = suite_with_a_run(tmp_path / "results")
    path = folder.runs()[0]
    for word in (str(path), path.name, "t--m"):
        told = opcd("show", word)
        assert told.code == 0, told.err
        assert "state: unfinished, 1 steps trained" in told.out
        assert "learning_rate = 0.0001" in told.out
        assert "0.25" in told.out
    answer = json.loads(opcd("show", "t--m", "--json").out)
    assert answer["scores"][0]["value"] == 0.25
    assert answer["config"]["method"] == {"name": "m"}


def test_a_name_of_two_runs_is_refused_with_both(opcd, tmp_path):
    suite_with_a_run(tmp_path / "results", "one")
    suite_with_a_run(tmp_path / "results", "two")
    told = opcd("show", "t--m")
    assert told.code == 2 and "results/one/" in told.err and "results/two/" in told.err


def test_an_unfinished_run_is_no_damage_and_a_changed_file_is(opcd, tmp_path):
    folder = suite_with_a_run(tmp_path / "results")
    told = opcd("verify", "mine")
    assert told.code == 0 and "not finished" in told.out
    from opcd_bench.store.run_dir import RunDir

    path = folder.runs()[0]
    config = json.loads((path / "config.json").read_text())
    with RunDir.open(path, config, {}) as run:
        run.seal({"chosen_step": 0})
    assert opcd("verify", str(path)).code == 0
    rows = unzipped(path / "evals.jsonl.gz")
    (path / "evals.jsonl.gz").write_bytes(zipped(rows.replace(b"0.25", b"0.95")))
    told = opcd("verify", "mine")
    assert told.code == 1 and "evals.jsonl" in told.out
    assert json.loads(opcd("verify", "mine", "--json").out)["damaged"] == 1


def test_doctor_finds_what_is_required_and_says_what_to_type(opcd, monkeypatch):
    told = opcd("doctor", "--json")
    answer = json.loads(told.out)
    assert told.code == 0 and answer["ok"] is True
    by_name = {finding["what"]: finding for finding in answer["findings"]}
    assert by_name["torch"]["state"] == "ok"
    assert by_name["results folder"]["state"] == "ok"
    from opcd_bench.cli import doctor

    real = doctor.version

    def version(name):
        if name == "textarena":
            raise doctor.PackageNotFoundError(name)
        return "0.0.1" if name == "scipy" else real(name)

    monkeypatch.setattr(doctor, "version", version)
    told = opcd("doctor")
    assert told.code == 1
    assert "pip install 'textarena" in told.out and "pip install 'scipy" in told.out


def test_audit_prints_a_row_for_each_loss(opcd, monkeypatch):
    import dataclasses

    @dataclasses.dataclass
    class Row:
        id: str
        averaged: str = "exact"
        cosine: float = 0.98765
        norm_ratio: float = 1.0
        bias_ratio: float = 0.125
        student_mass_outside: float = 0.01
        teacher_mass_outside: float | None = None
        no_gradient_share: float = 0.0
        positions: int = 40

    def rows(suite, methods, items, console):
        assert (suite.tasks, items) == (("frozen_lake",), 4)
        return [(method.name, Row(method.loss.id)) for method in methods]

    fake = types.ModuleType("opcd_bench.runner.audit_batch")
    fake.rows = rows
    monkeypatch.setitem(sys.modules, "opcd_bench.runner.audit_batch", fake)
    monkeypatch.setattr("opcd_bench.runner.audit_batch", fake, raising=False)
    words = ["audit", "--method", "opcd,opcd_full", "--method", "jsd", "--task", "frozen_lake",
             "--items", "4"]  # fmt: skip
    told = opcd(*words)
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["opcd", "opcd_full", "jsd"]
    assert "0.9877" in told.out and "40 response positions" in told.out
    assert len(json.loads(opcd(*words, "--json").out)["rows"]) == 3


def test_output_that_nobody_reads_is_no_error(opcd, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    assert opcd("suites").code in (0, 1)


def test_the_card_of_a_model_is_printed_or_said_to_be_missing(opcd, tmp_path):
    told = opcd("micro", "card", str(tmp_path))
    assert told.code == 2 and "--measure" in told.err
    (tmp_path / "CARD.md").write_text("# A card\n")
    assert opcd("micro", "card", str(tmp_path)).out == "# A card\n"


def test_an_interrupted_pre_training_says_how_to_go_on(opcd, monkeypatch):
    fake = types.ModuleType("opcd_bench.models.micro.pretrain")

    def pretrain(out, **settings):
        assert settings.pop("recipe") == recipe.SIZES["micro-small"]
        assert settings == {"seed": 3, "tokens": 5, "resume": False, "device": "auto"}
        raise KeyboardInterrupt

    fake.pretrain, fake.refuse_foreign = pretrain, lambda out: None
    monkeypatch.setitem(sys.modules, "opcd_bench.models.micro.pretrain", fake)
    monkeypatch.setattr("opcd_bench.models.micro.pretrain", fake, raising=False)
    told = opcd("micro", "pretrain", "--seed", "3", "--tokens", "5", "--fresh")
    assert told.code == 130
    assert told.err.endswith("opcd-bench micro pretrain --seed 3 --tokens 5\n")


def test_a_dry_run_speaks_of_further_seeds_only_where_there_are_any(opcd):
    words = ("run", "--suite", "quick", "--learning-rate", "1e-4,1e-3", "--dry-run")
    dev = ("--set", "headline_learning_rate=dev", "--set", "sweep_seeds=1")
    assert "After that, 4 more: the other 1 seeds" in opcd(*words, *dev, "--seeds", "2").out
    assert "After that" not in opcd(*words, *dev, "--seeds", "1").out
