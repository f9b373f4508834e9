"""Whole chains: each round begins where the last one chose, and a kill anywhere changes no byte."""

import dataclasses
import gc
import json
import os
import shutil
import signal
import weakref

import pytest
from toy import Toy, toy_suite

from opcd_bench import preemption
from opcd_bench.envs import context_file, leakage
from opcd_bench.envs.context_file import ContextFile
from opcd_bench.envs.task import Example
from opcd_bench.errors import CellFailed, StoreError
from opcd_bench.experience import extract, select
from opcd_bench.experience.extract import Extraction
from opcd_bench.models.loading import load
from opcd_bench.models.saving import weights_hash
from opcd_bench.progress import QuietReporter
from opcd_bench.report.analysis import flat
from opcd_bench.report.analysis.load import load as load_results
from opcd_bench.report.tables import rounds as table
from opcd_bench.report.tables.stored import text_of
from opcd_bench.report.tables.told_contexts import told_contexts
from opcd_bench.runner import registry
from opcd_bench.runner.cell import CellRun
from opcd_bench.runner.resources import Resources
from opcd_bench.runner.rounds import chain as chains
from opcd_bench.runner.rounds import round as round_module
from opcd_bench.runner.rounds import rounds
from opcd_bench.runner.rounds.round import Round
from opcd_bench.runner.training import Training
from opcd_bench.store.chain_dir import ChainDir
from opcd_bench.store.checkpoints import MODEL, Checkpoint
from opcd_bench.store.files import remove_folder, temporary_beside
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.verification import verify

MADE = {"items": 3, "variant": "raw-traces", "select": "first-1"}
"""The random model writes no lessons, but whatever it wrote can be told."""


def table_of(summary):
    return text_of(summary.suite_dir, chained=True)


def suite_of(model, output, **values):
    base = {"rounds": 2, "max_steps": 2, "eval_steps": 2, "save_steps": 1, "choose": "last"}
    return toy_suite(model, output, **{**base, "experience": MADE, **values})


def run(monkeypatch, suite, task=None):
    """The summary of all rounds, and the folders of the chains."""
    monkeypatch.setattr(registry, "task", lambda *_, **__: task or Toy())
    summary = rounds.run(suite, console=QuietReporter())
    return summary, [one.folder(suite) for one in chains.chains(suite)]


@pytest.fixture(scope="module")
def two_rounds(tiny_model_folder, tmp_path_factory):
    """A chain of two rounds, with its suite; read only."""
    output = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        suite = suite_of(tiny_model_folder, output)
        summary, (folder,) = run(patch, suite)
    assert (summary.done, summary.failed, summary.total) == (2, 0, 2), text_of(
        summary.suite_dir, chained=True
    )
    return suite, folder


def truth(folder):
    """Every file of a chain that must not depend on interruptions, by name."""
    found = {path.name: path.read_bytes() for path in folder.path.glob("*.json")}
    for number, path in enumerate(folder.runs(), 1):
        files = [path / "train.jsonl.gz", path / "evals.jsonl.gz", path / "config.json"]
        for file in (*files, *sorted((path / "samples").iterdir())):
            found[f"round {number} {file.name}"] = file.read_bytes()
        for shared in folder.round(number).all_shared():
            for name in shared.names():
                found[f"round {number} {name}"] = shared.file(name).read_bytes()
    for file in sorted(folder.path.parents[1].glob("experience/*/raw-traces/s*.json")):
        found[str(file.relative_to(folder.path.parents[1]))] = file.read_bytes()
    return found


def checkpoint_of(folder, number):
    path = folder.runs()[number - 1]
    return RunReader(path).checkpoint_at(RunReader(path).summary["chosen_step"])


def test_no_model_of_a_round_is_left_when_the_next_one_loads_its_own(
    tiny_model_folder, tmp_path, monkeypatch
):
    models, left = [], []

    class Watched(Resources):
        def __init__(self, *given, **named):
            left.append([one() is not None for one in models])
            super().__init__(*given, **named)
            models.append(weakref.ref(self.models.initial.model))
            models.append(weakref.ref(self.models.fresh_student().model))

    monkeypatch.setattr(round_module, "Resources", Watched)
    gc.disable()  # or it may come by chance
    try:
        run(monkeypatch, suite_of(tiny_model_folder, tmp_path))
    finally:
        gc.enable()
    assert left == [[], [False, False]]


def test_suites_that_make_their_own_contexts_stand_side_by_side(
    tiny_model_folder, tmp_path, monkeypatch
):
    suites = []
    for name, items in (("few", 2), ("more", 3)):
        suite = suite_of(tiny_model_folder, tmp_path, name=name, rounds=1, seeds=2,
                         experience={**MADE, "items": items})  # fmt: skip
        run(monkeypatch, suite)
        suites.append(load_results(tmp_path / name))
    made = told_contexts(suites)
    assert list(made["context"]) == ["(none)", "few", "more"]
    few = made.iloc[1]
    assert few["taught by"] == "opcd_full, 0.001, 2 seeds"
    (shown,) = table.read(tmp_path / "few").to_dict("records")
    assert few["told"].value == shown["told"].value
    assert few["plain"].value == shown["plain after"].value
    other = suite_of(tiny_model_folder, tmp_path, name="longer", rounds=1, seeds=2, max_steps=4)
    run(monkeypatch, other)
    with pytest.raises(StoreError, match="few and longer differ in other settings"):
        told_contexts([suites[0], load_results(tmp_path / "longer")])


# --- where a round begins ---------------------------------------------------------------------


def test_the_last_round_needs_no_checkpoint_since_nothing_begins_from_it(
    tiny_model_folder, tmp_path, monkeypatch
):
    suite = suite_of(tiny_model_folder, tmp_path, rounds=1, keep_checkpoints="none")
    for _ in range(2):  # as it ends, and when the same command is typed again
        summary, (folder,) = run(monkeypatch, suite)
        assert (summary.done, summary.failed) == (1, 0), table_of(summary)
        (sealed,) = folder.runs()
        assert RunReader(sealed).summary["chosen_step"] == 2
        assert not list(RunReader(sealed).checkpoints())


def test_the_student_and_its_frozen_teacher_enter_a_round_as_the_last_one_left_them(two_rounds):
    _, folder = two_rounds
    chosen = checkpoint_of(folder, 1)
    assert chosen.step == 2
    entering = folder.round(2).read()["weights"]
    assert entering == weights_hash(load(str(chosen.path / MODEL), device="cpu").model)
    assert entering != folder.round(1).read()["weights"]


def test_before_a_round_is_after_the_last_one_sample_by_sample(two_rounds):
    _, folder = two_rounds
    first = RunReader(folder.runs()[0])
    (anchors,) = [s for s in folder.round(2).all_shared() if "base-test-s0" in s.names()]
    base = anchors.get("base-test-s0")[1:]
    keys = ("example_id", "score", "turns", "outcome")
    after = [[row[key] for key in keys] for row in first.read("samples/test")]
    assert after == [[row[key] for key in keys] for row in base]

    def dev(path, step):
        (row,) = [
            row
            for row in RunReader(path).read("evals")
            if row["split"] == "dev" and row["metric"] == "accuracy" and row["step"] == step
        ]
        return row["value"], row["protocol_hash"]

    assert dev(folder.runs()[0], 2) == dev(folder.runs()[1], 0)


def test_each_round_tells_what_its_own_student_wrote(two_rounds):
    suite, folder = two_rounds
    told = [context_file.read(folder.context(number)) for number in (1, 2)]
    assert told[0].text != told[1].text
    for number, made in enumerate(told, 1):
        record = folder.record(number)
        root = folder.path.parents[1] / "experience" / record["experience"]
        lines = (root / "traces" / "s000.jsonl").read_text().splitlines()
        replies = [json.loads(line)["turns"][0]["reply"] for line in lines]
        assert all(reply in made.text for reply in replies)
        assert made.provenance["split"] == "train"
        assert made.provenance["model"]["weights"] == folder.round(number).read()["weights"]
        assert made.provenance["stream"] == ["chain", 0, "round", number]
        assert record["contexts"][0]["items"] == 3 and record["attempts"]["read"] == 3
    config = RunReader(folder.runs()[1]).config
    assert config["suite"]["round"] == 2 and config["suite"]["begin_weights"]
    assert suite.model in config["suite"]["model"]


@pytest.mark.usefixtures("only_played_episodes")
def test_test_is_scored_once_a_round_and_after_its_choice(tiny_model_folder, tmp_path, monkeypatch):
    played = []

    def opened(split, example):
        events = [p.read_text() for p in tmp_path.glob("toy/rounds/*/round_*/*/events.jsonl")]
        played.append((split, sum('"chosen"' in text for text in events)))

    run(monkeypatch, suite_of(tiny_model_folder, tmp_path), Toy(opened))
    tests = [after for split, after in played if split == "test"]
    # five examples each by the trained student, the base and the ceiling
    assert tests == [1] * 15 + [2] * 15


# --- resuming ---------------------------------------------------------------------------------


def kill_self(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name, nth=1):
    """Kill at the nth call of a method."""

    def install(patch):
        original, count = getattr(owner, name), [0]

        def call(self, *args, **kwargs):
            count[0] += 1
            if count[0] == nth:
                kill_self()
            return original(self, *args, **kwargs)

        patch.setattr(owner, name, call)

    return install


KILLS = {
    "round 1: after the attempts": before(Extraction, "parse"),
    "round 1: before its record": before(ChainDir, "put_record"),
    "round 1: before its cell": before(Round, "_consolidate"),
    "between the rounds": before(Round, "run", 2),
    "round 2: after the attempts": before(Extraction, "parse", 2),
    "round 2: in its cell": before(RunDir, "train", 4),
    "round 2: before its seal": before(RunDir, "seal", 2),
    "round 1: between its seal and the list": before(Round, "_seal"),
    "round 2: between its seal and the list": before(Round, "_seal", 2),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_chain_ends_byte_identical(
    moment, two_rounds, tiny_model_folder, tmp_path, monkeypatch
):
    suite = suite_of(tiny_model_folder, tmp_path)
    with monkeypatch.context() as patch:
        KILLS[moment](patch)
        pid = os.fork()
        if pid == 0:
            try:
                run(patch, suite)
            finally:
                os._exit(0)
        status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status), "the child was meant to be killed"
    _, (folder,) = run(monkeypatch, suite)
    assert truth(folder) == truth(two_rounds[1])
    assert not [problem for problem in verify(tmp_path / "toy") if problem.kind != "no checkpoint"]
    for number in (1, 2):
        assert folder.round(number).read()["floors"] == {"toy": two_rounds_floors(two_rounds)}
        for part in folder.parts(number):
            assert SuiteDir(tmp_path / "toy").listed(part) is not None, part


def two_rounds_floors(two_rounds):
    return two_rounds[1].round(1).read()["floors"]["toy"]


def test_floors_that_an_older_versions_kill_lost_come_back_with_the_next_run(
    two_rounds, tiny_model_folder, tmp_path, monkeypatch
):
    shutil.copytree(two_rounds[0].output_dir, tmp_path, dirs_exist_ok=True)
    suite = suite_of(tiny_model_folder, tmp_path)
    folder = ChainDir(tmp_path / "toy" / "rounds" / two_rounds[1].path.name)
    path = folder.round(2).path / "suite.json"
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "floors"})
    )
    for listed in (path.with_name("SEALED"), tmp_path / "toy" / "SEALED"):
        listed.unlink()
    run(monkeypatch, suite)
    assert folder.round(2).read()["floors"] == {"toy": two_rounds_floors(two_rounds)}
    assert {problem.kind for problem in verify(tmp_path / "toy")} <= {"no checkpoint"}


def test_what_a_chain_is_made_of_is_verified_and_what_kills_left_of_it_goes(
    two_rounds, tiny_model_folder, tmp_path, monkeypatch
):
    shutil.copytree(two_rounds[0].output_dir, tmp_path, dirs_exist_ok=True)
    root, suite = tmp_path / "toy", suite_of(tiny_model_folder, tmp_path)
    folder = ChainDir(tmp_path / "toy" / "rounds" / two_rounds[1].path.name)
    learnt = root / "experience" / folder.record(1)["experience"]
    left = [
        temporary_beside(learnt / "traces" / "s000.jsonl"),
        temporary_beside(learnt / "raw-traces" / "items" / "s000.jsonl"),
        temporary_beside(folder.path / "context_2.json"),
        temporary_beside(folder.runs()[0] / "checkpoints" / "step_000001"),
    ]
    for path in left[:3]:
        path.write_text("half")
    left[3].mkdir()
    assert {p.path for p in verify(root) if p.kind == "left over"} == set(left)
    run(monkeypatch, suite)
    assert {problem.kind for problem in verify(root)} <= {"no checkpoint"}
    for part in (
        folder.context(1), folder.path / "chain.json", folder.path / "round_2.json",
        learnt / "traces" / "s000.jsonl", folder.round(1).path / "suite.json",
        folder.runs()[1] / "DONE",
    ):  # fmt: skip
        whole = part.read_bytes()
        part.unlink()
        assert any(p.damage and p.path == part for p in verify(root)), part
        part.write_bytes(whole)
    folder.path.rename(tmp_path / "elsewhere")
    assert len([p for p in verify(root) if p.kind == "missing"]) > 5


def test_what_is_done_is_not_done_again_and_a_third_round_follows(
    two_rounds, tiny_model_folder, tmp_path, monkeypatch
):
    shutil.copytree(two_rounds[0].output_dir, tmp_path, dirs_exist_ok=True)
    suite = suite_of(tiny_model_folder, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Round, "_learn", lambda *_: pytest.fail("learnt again"))
        patch.setattr(CellRun, "run", lambda *_: pytest.fail("trained again"))
        summary, (folder,) = run(patch, suite)
    assert summary.done == 2
    before_bytes = truth(folder)
    summary, (again,) = run(monkeypatch, suite.model_copy(update={"rounds": 3}))
    assert summary.done == 3 and again.path == folder.path
    assert truth(again).items() > before_bytes.items()
    assert again.round(3).read()["weights"] == weights_hash(
        load(str(checkpoint_of(again, 2).path / MODEL), device="cpu").model
    )


def test_a_chain_that_is_whole_needs_no_checkpoint_and_one_that_lacks_it_hinders_no_other(
    two_rounds, tiny_model_folder, tmp_path, monkeypatch
):
    """As after a git clone: checkpoints are not committed."""
    shutil.copytree(two_rounds[0].output_dir, tmp_path, dirs_exist_ok=True)
    suite = suite_of(tiny_model_folder, tmp_path)
    for checkpoints in tmp_path.glob("toy/rounds/*/round_*/*/checkpoints"):
        shutil.rmtree(checkpoints)
    with monkeypatch.context() as patch:
        patch.setattr(Round, "_go_on", lambda *_: pytest.fail("nothing is left to do"))
        summary, (folder,) = run(patch, suite)
    assert (summary.done, summary.failed) == (2, 0) and folder.failure() is None
    more = suite.model_copy(update={"rounds": 3})
    summary, _ = run(monkeypatch, more)
    assert (summary.done, summary.failed) == (2, 1)
    failure = folder.failure()
    assert failure["round"] == 3 and "chosen checkpoint (step 2) is missing" in failure["reason"]
    remove_folder(folder.path / "round_2")
    summary, (_, other) = run(monkeypatch, suite.model_copy(update={"seeds": 2}))
    assert (summary.done, summary.failed) == (3, 1) and len(other.runs()) == 2
    failure = folder.failure()
    assert failure["round"] == 2 and "chosen checkpoint (step 2) is missing" in failure["reason"]


def test_a_round_is_not_sealed_beside_a_chain_that_has_other_settings_by_now(
    tiny_model_folder, tmp_path, monkeypatch
):
    first = suite_of(tiny_model_folder, tmp_path, rounds=1)
    second = first.model_copy(update={"max_steps": 4})
    original, done = CellRun._finish, []

    def finish(self):
        if self.suite.max_steps == 4:
            done.append(run(patch, first)[0].done)
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(CellRun, "_finish", finish)
        summary, (folder,) = run(patch, second)
    assert done == [1] and (summary.done, summary.failed) == (0, 1)
    (refused,) = map(RunReader, folder.runs())
    assert "suite.max_steps: 2 -> 4" in refused.failure()["reason"]
    assert run(monkeypatch, first)[0].done == 1


def of_another_version(monkeypatch):
    for module in (extract, select):
        monkeypatch.setattr(module, "__version__", "99.0")


def test_another_version_rewrites_nothing_that_is_sealed(
    two_rounds, tiny_model_folder, tmp_path, monkeypatch
):
    """A second method shares the first round's attempts and context."""
    shutil.copytree(two_rounds[0].output_dir, tmp_path, dirs_exist_ok=True)
    of_another_version(monkeypatch)
    suite = suite_of(tiny_model_folder, tmp_path, methods=["opcd_full", "sft_context"])
    summary, (first, second) = run(monkeypatch, suite)
    assert (summary.done, summary.failed) == (4, 0), table_of(summary)
    assert second.record(1)["experience"] == first.record(1)["experience"]
    assert truth(first).items() >= truth(two_rounds[1]).items()
    assert {problem.kind for problem in verify(tmp_path / "toy")} <= {"no checkpoint"}


def test_another_version_goes_on_where_a_choice_was_made_and_not_recorded(
    two_rounds, tiny_model_folder, tmp_path, monkeypatch
):
    suite = suite_of(tiny_model_folder, tmp_path, rounds=1)
    stopped_at(ChainDir, "put_record", monkeypatch, suite)
    of_another_version(monkeypatch)
    summary, (folder,) = run(monkeypatch, suite)
    assert (summary.done, summary.failed) == (1, 0), table_of(summary)
    assert truth(folder).items() <= truth(two_rounds[1]).items()


def test_a_chain_that_was_stopped_before_its_context_goes_on_with_what_other_chains_lent_it(
    tiny_model_folder, tmp_path, monkeypatch
):
    """Shared rows are copied into a round's folder early, which must be known as ours by then."""
    suite = suite_of(
        tiny_model_folder, tmp_path, rounds=1, seeds=2, retention=["ifeval_micro"],
        retention_items=2, retention_max_completion_length=4,
    )  # fmt: skip
    learn = Round._learn

    def first_alone(self, resources):
        if self.chain.seed == 1:
            raise KeyboardInterrupt
        return learn(self, resources)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Round, "_learn", first_alone)
        run(patch, suite)
    summary, folders = run(monkeypatch, suite)
    assert (summary.done, summary.failed) == (2, 0), table_of(summary)
    lent = [s for s in folders[1].round(1).all_shared() if "ifeval_micro" in s.path.name]
    assert [s.names() for s in lent] == [["base"]]


def stopped_at(owner, name, monkeypatch, suite, task=None):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(patch, suite, task)


def test_a_task_file_that_is_edited_after_a_chain_was_stopped_begins_anew(
    tiny_model_folder, tmp_path, monkeypatch
):
    """Attempts of another file are not gone on with, and nobody has to remove them."""
    suite = suite_of(tiny_model_folder, tmp_path, rounds=1)
    before, after = Toy(), Toy()
    before.source_hash, after.source_hash = "a" * 64, "b" * 64
    stopped_at(Extraction, "parse", monkeypatch, suite, before)
    summary, (folder,) = run(monkeypatch, suite, after)
    assert (summary.done, summary.failed) == (1, 0), table_of(summary)
    assert len(list((tmp_path / "toy" / "experience").glob("toy--*/traces.json"))) == 2
    assert context_file.read(folder.context(1)).provenance["source_hash"] == "b" * 64


def another_choice(root):
    (path,) = root.glob("rounds/*/context_1.json")
    context_file.write(path, ContextFile("Say nothing.", provenance={"selected": {}}))


def other_attempts(root):
    (path,) = root.glob("experience/*/traces.json")
    path.write_text(path.read_text().replace('"items": 3', '"items": 4'))


def no_extraction(root):
    for path in root.glob("experience/*/*.json"):
        path.unlink()


@pytest.mark.parametrize("made", [another_choice, other_attempts, no_extraction])
def test_what_a_round_refuses_is_got_past_by_options_that_a_run_has(
    made, tiny_model_folder, tmp_path, monkeypatch
):
    suite = suite_of(tiny_model_folder, tmp_path, rounds=1)
    stopped_at(ChainDir, "put_record", monkeypatch, suite)
    made(tmp_path / "toy")
    summary, (folder,) = run(monkeypatch, suite)
    assert summary.failed == 1
    reason = folder.failure()["reason"]
    assert "--name" in reason and "--output-dir" in reason and "--out " not in f"{reason} "


@pytest.mark.parametrize(
    ("setting", "value"),
    [("select", "first-2"), ("max_context_tokens", 1), ("max_reflection_length", 4)],
)
def test_a_setting_that_a_round_cannot_use_is_called_as_a_suite_calls_it(
    setting, value, tiny_model_folder, tmp_path, monkeypatch
):
    lessons = {"variant": "memoryless"} if setting == "max_reflection_length" else {}
    experience = {**MADE, **lessons, setting: value}
    suite = suite_of(tiny_model_folder, tmp_path, rounds=1, experience=experience)
    summary, (folder,) = run(monkeypatch, suite)
    assert summary.failed == 1
    assert f"suite [experience] {setting}" in folder.failure()["reason"]


def test_a_round_whose_beginning_was_made_anew_is_refused(
    two_rounds, tiny_model_folder, tmp_path, monkeypatch
):
    """Its context was learnt by a student that is not there any more."""
    shutil.copytree(two_rounds[0].output_dir, tmp_path, dirs_exist_ok=True)
    suite = suite_of(tiny_model_folder, tmp_path)
    original = chains.after

    def other(*given):
        begin = original(*given)
        return dataclasses.replace(begin, weights="0" * 64)

    monkeypatch.setattr(chains, "after", other)
    summary, (folder,) = run(monkeypatch, suite)
    assert (summary.done, summary.failed) == (1, 1)
    failure = folder.failure()
    assert failure["round"] == 2 and "does not belong to this chain" in failure["reason"]


def test_a_damaged_checkpoint_is_no_beginning(two_rounds, tiny_model_folder, tmp_path, monkeypatch):
    shutil.copytree(two_rounds[0].output_dir, tmp_path, dirs_exist_ok=True)
    suite = suite_of(tiny_model_folder, tmp_path)
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())
    (one,) = chains.chains(suite)
    folder = one.folder(suite)
    remove_folder(folder.path / "round_2")
    checkpoint: Checkpoint = checkpoint_of(folder, 1)
    (checkpoint.path / MODEL / "config.json").write_text("{}")
    summary, _ = run(monkeypatch, suite)
    assert (summary.done, summary.failed) == (1, 1)
    assert "corrupt checkpoint" in folder.failure()["reason"]


def test_a_chain_that_is_taken_off_its_node_has_not_failed(
    tiny_model_folder, tmp_path, monkeypatch
):
    """At the last time limit submitit raises an ordinary exception wherever the chain is."""
    monkeypatch.setattr(preemption, "_LEAVING", [])

    def stopped(*_):
        preemption.leave()
        raise RuntimeError("timed-out too many times")

    monkeypatch.setattr(Round, "_learn", stopped)
    suite = suite_of(tiny_model_folder, tmp_path)
    with pytest.raises(RuntimeError, match="too many times"):
        run(monkeypatch, suite)
    (one,) = chains.chains(suite)
    assert not list(one.folder(suite).path.rglob("FAILED.json"))


# --- several chains ---------------------------------------------------------------------------


@pytest.mark.usefixtures("only_played_episodes")
def test_methods_share_the_first_rounds_attempts_and_part_after_it(
    tiny_model_folder, tmp_path, monkeypatch
):
    suite = suite_of(tiny_model_folder, tmp_path, methods=["opcd_full", "sft_context"])
    opened = []
    summary, folders = run(monkeypatch, suite, Toy(lambda split, _: opened.append(split)))
    assert summary.done == 4
    first, second = ({f.record(number)["experience"] for f in folders} for number in (1, 2))
    assert len(first) == 1 and len(second) == 2
    # three attempts once in round 1, twice in round 2; two steps of two replies in each cell;
    # prompts_for opens an episode to see where a context goes, in every round that learns
    assert opened.count("train") == 3 * 3 + 4 * 2 * 2 + 4


@pytest.mark.usefixtures("only_played_episodes")
def test_chains_of_one_context_score_and_sample_once_what_is_the_same_of_their_first_rounds(
    tiny_model_folder, tmp_path, monkeypatch
):
    """Base, in-context teacher and its responses; what comes of it is that of a chain alone."""
    methods, opened = ["sft_context", "forward_kl"], []
    suite = suite_of(tiny_model_folder, tmp_path, methods=methods)
    summary, folders = run(monkeypatch, suite, Toy(lambda split, _: opened.append(split)))
    assert (summary.done, summary.failed) == (4, 0), table_of(summary)
    assert folders[0].record(1)["experience"] == folders[1].record(1)["experience"]
    # round 1: base and teacher once, each student; round 2: base, teacher and student, twice
    assert opened.count("test") == 5 * ((2 + 2) + 2 * 3)
    # base before and student after the two steps; and the lengths of prompts, which are recorded
    assert opened.count("dev") == 4 * ((1 + 2) + 2 * 2) + 4 * 4
    # attempts (and a look at where a context goes) as ever; the teacher's responses of two steps
    # of two once in round 1, twice in round 2
    assert opened.count("train") == 3 * 3 + 4 + 4 * (1 + 2)
    assert {problem.kind for problem in verify(tmp_path / "toy")} <= {"no checkpoint"}
    for method, folder in zip(methods, folders, strict=True):
        alone = suite_of(tiny_model_folder, tmp_path / method, methods=[method])
        _, (own,) = run(monkeypatch, alone)
        assert truth(folder).items() >= truth(own).items()
        shutil.copytree(folder.round(1).path, tmp_path / "moved" / method)
        assert {one.kind for one in verify(tmp_path / "moved" / method)} <= {"no checkpoint"}
        assert len(load_results(tmp_path / "moved" / method).anchors) == 10


def test_a_chain_that_fails_is_recorded_the_others_go_on_and_it_is_taken_up_again(
    tiny_model_folder, tmp_path, monkeypatch
):
    suite = suite_of(tiny_model_folder, tmp_path, methods=["opcd_full", "opcd_tail"])
    original = Round._learn

    def learn(self, bench):
        if (self.chain.method.name, self.number) == ("opcd_full", 2):
            raise CellFailed("nothing was learnt")
        return original(self, bench)

    with monkeypatch.context() as patch:
        patch.setattr(Round, "_learn", learn)
        summary, _ = run(patch, suite)
    assert (summary.done, summary.failed, summary.total) == (3, 1, 4)
    rows = table.read(tmp_path / "toy").to_dict("records")
    assert {(row["method"], row["round"]): row["missing"] for row in rows} == {
        ("opcd_full", 1): "", ("opcd_full", 2): "failed: nothing was learnt",
        ("opcd_tail", 1): "", ("opcd_tail", 2): "",
    }  # fmt: skip
    summary, (folder, _) = run(monkeypatch, suite)
    assert summary.failed == 0 and folder.failure() is None


def test_a_cell_that_fails_ends_its_chain_with_its_reason(tiny_model_folder, tmp_path, monkeypatch):
    suite = suite_of(tiny_model_folder, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", lambda *_: (_ for _ in ()).throw(CellFailed("too cold")))
        summary, _ = run(patch, suite)
    assert (summary.done, summary.failed) == (0, 2)
    assert "failed: too cold" in table_of(summary) and "not run" in text_of(
        summary.suite_dir, chained=True
    )


# --- replay -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("only_played_episodes")
def test_a_replay_opens_no_episode_of_train_in_training(tiny_model_folder, tmp_path, monkeypatch):
    training_now, opened = [False], []

    def counted(split, example):
        opened.append(split)

    def guarded(split, example):
        counted(split, example)
        if split == "train" and training_now[0]:
            raise AssertionError("an episode was opened in training")

    original = Training.step

    def train(self, step):
        training_now[0] = True
        try:
            return original(self, step)
        finally:
            training_now[0] = False

    monkeypatch.setattr(Training, "step", train)
    suite = suite_of(tiny_model_folder, tmp_path, consolidate="replay")
    summary, (folder,) = run(monkeypatch, suite, Toy(guarded))
    assert (summary.done, summary.failed) == (2, 0), table_of(summary)
    # three attempts a round, and the one look at where a context goes
    assert opened.count("train") == 2 * (3 + 1)
    for path in folder.runs():
        reader = RunReader(path)
        rows = reader.read("train")
        assert all(row["written_accuracy"] is None and row["failed"] == 0 for row in rows)
        assert all(row["replies"] == suite.batch_size for row in rows)
        assert reader.config["task"]["training"]["states"] == 3
    opened.clear()
    own = run(monkeypatch, suite_of(tiny_model_folder, tmp_path / "own"), Toy(counted))[1][0]
    assert opened.count("train") == 2 * (3 + 1) + 2 * 2 * 2, "else the count above says nothing"
    protocols = [
        {(row["split"], row["protocol_hash"]) for row in RunReader(f.runs()[0]).read("evals")}
        for f in (folder, own)
    ]
    assert protocols[0] == protocols[1], "dev and test are the task's own"


def test_a_replay_with_train_items_ends_whatever_a_task_says_of_its_examples(
    tiny_model_folder, tmp_path, monkeypatch
):
    """Floors of a task read what its own examples have, and a state has messages alone."""

    class Read(Toy):
        def floors(self, examples):
            assert all(example.content["word"] for example in examples)
            return super().floors(examples)

    suite = suite_of(tiny_model_folder, tmp_path, rounds=1, consolidate="replay", train_items=2)
    summary, (folder,) = run(monkeypatch, suite, Read())
    assert (summary.done, summary.failed) == (1, 0), table_of(summary)
    assert {row["split"] for row in RunReader(folder.runs()[0]).read("evals")} == {"dev", "test"}
    assert "training_prompts" not in json.dumps(folder.round(1).read())


def test_a_replay_never_meets_a_state_that_it_may_not_train_on(
    tiny_model_folder, tmp_path, monkeypatch
):
    """Over-long prompts are refused here, so one of them would fail the cell."""

    class Long(Toy):
        def examples(self, split):
            found = list(super().examples(split))
            if split != "train":
                return found
            return [*found[:3], *(Example({"word": f"train{i}" + "x" * 500}) for i in range(3, 6))]

    suite = suite_of(
        tiny_model_folder, tmp_path, rounds=1, consolidate="replay", max_prompt_length=400,
        experience={**MADE, "items": 6, "max_context_tokens": 300},
    )  # fmt: skip
    assert suite.overlong == "refuse"
    summary, (folder,) = run(monkeypatch, suite, Long())
    assert (summary.done, summary.failed) == (1, 0), table_of(summary)
    assert folder.record(1)["attempts"]["skipped"] == 3
    assert RunReader(folder.runs()[0]).config["task"]["training"]["states"] == 3


# --- the table --------------------------------------------------------------------------------


def test_the_table_says_what_each_round_gained(two_rounds):
    _, folder = two_rounds
    rows = table.read(folder.path.parents[1]).to_dict("records")
    assert [row["round"] for row in rows] == [1, 2]

    def accuracy(rows):
        scores = [row["score"] for row in rows]
        return sum(scores) / len(scores)

    start = None
    for row, path in zip(rows, folder.runs(), strict=True):
        record = folder.record(row["round"])
        (anchors,) = [
            s for s in SuiteDir(path.parent).all_shared() if "ceiling-test-s0" in s.names()
        ]
        before = accuracy(anchors.get("base-test-s0")[1:])
        start = before if start is None else start
        after = accuracy(RunReader(path).read("samples/test"))
        assert row["plain before"].value == pytest.approx(before)
        assert row["told"].value == pytest.approx(accuracy(anchors.get("ceiling-test-s0")[1:]))
        assert row["plain after"].value == pytest.approx(after)
        assert row["gain"].value == pytest.approx(after - before)
        assert row["since start"].value == pytest.approx(after - start)
        assert (row["items"], row["steps"], row["missing"]) == (3.0, [2], "")
        traces = folder.path.parents[1] / "experience" / record["experience"] / "traces/s000.jsonl"
        deployed = accuracy(map(json.loads, traces.read_text().splitlines()))
        assert row["deployed"].value == pytest.approx(deployed)
    text = table.as_text(table.read(folder.path.parents[1]))
    assert "one seed" in text and "toy: rounds" in text


def test_leakage_is_looked_for_in_every_round(two_rounds):
    """Of the student after the round and before it, with the context of that round."""
    _, folder = two_rounds
    root = folder.path.parents[1]
    rows = table.read(root)
    for row, path in zip(rows.to_dict("records"), folder.runs(), strict=True):
        told = context_file.read(folder.context(row["round"])).text
        assert RunReader(path).sealed and SuiteDir(path.parent).read()["told"]["toy"] == {
            "contexts": [told], "patterns": list(leakage.PATTERNS),
        }  # fmt: skip
        (anchors,) = [s for s in SuiteDir(path.parent).all_shared() if "base-test-s0" in s.names()]
        for column, samples in (
            ("mentions context", RunReader(path).read("samples/test")),
            ("mentions context before", anchors.get("base-test-s0")[1:]),
        ):
            leaks = [leakage.Told((told,)).leak(sample["turns"]) for sample in samples]
            assert row[column].value == sum(leak.mentions for leak in leaks) / len(leaks)
            assert row[column].n == 5
    assert "mentions_context_before_low" in flat.of_rounds(rows).columns
    assert "No test response without context speaks of a context" in table.as_text(rows)
    assert "mentions context" not in table.as_text(rows)
    some = dataclasses.replace(rows["mentions context"].iloc[1], value=0.25)
    (shown,) = table.sections(rows.assign(**{"mentions context before": [some, some]}))
    assert {"mentions context", "mentions context before"} <= set(shown.columns)
    assert "copies context" not in shown.columns and shown.notes[-1].startswith("Leakage")


def test_a_page_of_rounds_shows_what_each_teacher_read(two_rounds):
    _, folder = two_rounds
    (first, second) = table.contexts(folder.path.parents[1])
    assert [first[1], second[1]] == [context_file.read(folder.context(n)).text for n in (1, 2)]
    (made,) = folder.record(1)["contexts"]
    size = f"{made['items']} items, {made['tokens']:,} tokens"
    assert first[0] == f"toy, opcd_full, seed 0, round 1: {size}"
    rows = table.read(folder.path.parents[1]).assign(items=40 / 3, tokens=1174.0)
    (shown,) = table.sections(rows)
    (row, *_) = shown.groups[0].rows
    at = [list(shown.columns).index(name) for name in ("items", "tokens")]
    assert [row[place] for place in at] == ["13.3", "1,174"]


def test_seeds_are_pooled_and_paired(tiny_model_folder, tmp_path, monkeypatch):
    suite = suite_of(tiny_model_folder, tmp_path, seeds=2, rounds=1)
    summary, folders = run(monkeypatch, suite)
    assert summary.total == 2
    (row,) = table.read(tmp_path / "toy").to_dict("records")
    afters = [
        [sample["score"] for sample in RunReader(f.runs()[0]).read("samples/test")] for f in folders
    ]
    pooled = [sum(pair) / 2 for pair in zip(*afters, strict=True)]
    assert row["plain after"].value == pytest.approx(sum(pooled) / len(pooled))
    assert len(row["runs"].names) == 2 and row["gain"].n == 5


def test_seeds_and_methods_that_were_not_begun_are_not_run(two_rounds, tmp_path):
    shutil.copytree(two_rounds[0].output_dir, tmp_path, dirs_exist_ok=True)
    SuiteDir(tmp_path / "toy").merge({"seeds": 3, "methods": ["opcd_tail"]})
    rows = table.read(tmp_path / "toy").to_dict("records")
    assert [(row["method"], row["round"], row["missing"]) for row in rows] == [
        ("opcd_full", 1, "2 of 3 seeds missing (not run)"),
        ("opcd_full", 2, "2 of 3 seeds missing (not run)"),
        ("opcd_tail", 1, "3 of 3 seeds missing (not run)"),
        ("opcd_tail", 2, "3 of 3 seeds missing (not run)"),
    ]
    assert len(rows[0]["runs"].names) == 1
