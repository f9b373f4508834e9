"""Selection: on dev alone, by successive halving, each score made once."""

import json
import shutil

import pytest
from scripted import Codes, reader

from opcd_bench.envs import context_file
from opcd_bench.envs.context_file import ContextFile
from opcd_bench.envs.task import Context
from opcd_bench.errors import ConfigError, DataError, StoreError
from opcd_bench.evaluation import task_scores
from opcd_bench.experience import select
from opcd_bench.experience.dev_scores import PLAIN, DevScores
from opcd_bench.experience.select import Selection, best, candidates_in, without_scores
from opcd_bench.progress import QuietReporter
from opcd_bench.rollout.engine import Sampling

SHORT = Sampling(temperature=0.0, max_completion_length=40)
RULES = {
    "s000": "rule0",
    "s001": "rule0 rule1 rule2",
    "s002": "rule3 rule1",
    "s003": "none",
    "s004": "rule0 rule1 rule3",
    "s005": "rule2",
    "s006": "nothing",
    "s007": "rule1",
}
"""Dev's numbers, 100 to 139, each need the rule of their remainder by 4."""


def obedient(prompt, seed):
    """Says what it is told, and nothing if it is told nothing."""
    return prompt.split("system\n")[1].split("<|im_end|>")[0] if "system\n" in prompt else "?"


@pytest.fixture
def folder(tmp_path):
    """Eight candidates: three quarters right are s001 and s004, half right s002."""
    for name, text in RULES.items():
        made = ContextFile(text, None, (text,), {"seed": int(name[1:])})
        context_file.write(tmp_path / "contexts" / f"{name}.json", made)
    return tmp_path / "contexts"


def run(folder, loaded, rule="best", out=None, task=None, answer=obedient, **settings):
    """What a selection chose, its files, and the engine that was asked."""
    read = reader(loaded, answer, **settings.pop("engine", {}))
    selection = Selection(
        task or Codes(["dev"]), folder, rule, sampling=SHORT,
        **{"seed": 0, "first_items": 4, "dev_items": 32, **settings},
    )  # fmt: skip
    chosen, paths = selection.run(out, lambda: read, QuietReporter())
    return chosen, paths, read.engine


def test_halving_scores_all_on_few_and_the_better_half_on_twice_as_many(folder, tiny_loaded):
    chosen, (path,), engine = run(folder, tiny_loaded)
    assert [(r.items, sorted(r.scores)) for r in chosen.rounds] == [
        (4, [f"s{i:03d}.json" for i in range(8)]),
        (8, ["s000.json", "s001.json", "s002.json", "s004.json"]),
        (16, ["s001.json", "s004.json"]),
        (32, ["s001.json"]),
    ]
    assert chosen.rounds[0].scores["s002.json"] == 0.5
    assert chosen.rounds[3].scores == {"s001.json": 0.75}
    assert chosen.plain == 0.0
    assert chosen.names == ("s001.json",), "of equals the first"
    assert path == folder / "selected" / "best.json"
    assert len(engine.asked) == 8 * 4 + 4 * 4 + 2 * 8 + 16 + 32
    assert engine.batches == [32, 16, 16, 16, 32], "a round is one batch"


def test_the_chosen_file_tells_the_same_and_says_how_it_was_chosen(folder, tiny_loaded):
    _, (path,), engine = run(folder, tiny_loaded)
    made = context_file.read(path)
    assert (made.text, made.placement) == ("rule0 rule1 rule2", "system")
    assert made.items == ("rule0 rule1 rule2",)
    assert made.provenance["seed"] == 1
    selected = made.provenance["selected"]
    assert (selected["rule"], selected["split"], selected["chosen"]) == ("best", "dev", "s001.json")
    assert selected["rounds"][0]["scores"]["s003.json"] == 0.0
    assert selected["candidates"]["s005.json"] == Context("rule2").hash
    tokens = sum(len(tiny_loaded.tokenizer(p)["input_ids"]) for p in engine.asked)
    assert selected["cost"] == {
        "samples": 112, "samples_of_all_on_all": 256, "prompt_tokens": tokens,
        "tokens_written": selected["cost"]["tokens_written"],
    }  # fmt: skip
    assert selected["cost"]["tokens_written"] > 112
    assert selected["plain"] == 0.0


def test_only_dev_is_ever_read(folder, tiny_loaded):
    """`Codes` raises where a split is listed that it may not; every rule is tried."""
    for rule in ("best", "random", "first-2"):
        task = Codes(["dev"])
        run(folder, tiny_loaded, rule, task=task)
        assert task.read <= {"dev"}
    with pytest.raises(AssertionError, match="dev was read"):
        run(folder, tiny_loaded, task=Codes(["test"]), engine={}, out=folder / "other.json")


def test_extraction_and_selection_together_read_no_test(tiny_loaded, tmp_path):
    from opcd_bench.config import experience as config
    from opcd_bench.experience.extract import Extraction
    from opcd_bench.experience.prompts import prompts_for
    from opcd_bench.experience.recipe import VARIANTS, Recipe

    def answer(prompt, seed):
        if "What to write" in prompt:
            return "- EXPERIENCE ITEM: rule1"
        return "rule1" if "rule1" in prompt else "?"

    task = Codes(["train", "dev"])
    for variant in VARIANTS:
        settings = config.Extraction(items=2, seeds=2, variant=variant)
        recipe = Recipe.of(settings, solving=SHORT, reflecting=SHORT, batch=128)
        prompts = prompts_for(task, "some/model")
        read = reader(tiny_loaded, answer)
        Extraction(task, recipe, prompts, read, tmp_path, QuietReporter()).run()
        run(tmp_path / variant, tiny_loaded, task=task, answer=answer)
    assert task.read == {"train", "dev"}


@pytest.mark.parametrize(("stop", "left"), [(20, 112), (40, 80), (70, 48), (100, 32)])
def test_an_interrupted_selection_goes_on_with_the_round_and_ends_in_the_same_bytes(
    folder, tiny_loaded, tmp_path, stop, left
):
    shutil.copytree(folder, tmp_path / "copy")
    _, (whole,), _ = run(tmp_path / "copy", tiny_loaded)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tiny_loaded, engine={"stop_after": stop})
    assert not (folder / "selected" / "best.json").exists()
    _, (path,), engine = run(folder, tiny_loaded)
    assert len(engine.asked) == left
    assert path.read_bytes() == whole.read_bytes()


def test_a_second_call_scores_nothing_and_another_models_scores_are_not_taken(folder, tiny_loaded):
    run(folder, tiny_loaded)
    _, _, engine = run(folder, tiny_loaded)
    assert engine.asked == []
    read = reader(tiny_loaded, obedient)
    scores = DevScores(Codes(), {"a": Context("rule0")}, read, SHORT, 1, folder / "selected")
    assert scores.score(["a", PLAIN], 8) == {"a": 0.25, PLAIN: 0.0}
    assert len(read.engine.asked) == 16, "another seed"


def test_more_examples_play_only_the_new_ones(tiny_loaded, tmp_path):
    read = reader(tiny_loaded, obedient)
    scores = DevScores(Codes(), {"a": Context("rule0")}, read, SHORT, 0, tmp_path)
    scores.score(["a"], 4)
    scores.score(["a"], 4)
    assert len(read.engine.asked) == 4
    scores.score(["a"], 10)
    assert len(read.engine.asked) == 10
    asked = [f"Code of {n}?" in p for n, p in zip(range(100, 110), read.engine.asked, strict=True)]
    assert all(asked)


def test_contexts_that_tell_the_same_are_scored_once(folder, tiny_loaded):
    context_file.write(folder / "s008.json", ContextFile("rule0 rule1 rule2"))
    (folder / "s009.txt").write_text("rule3\n")
    chosen, _, _ = run(folder, tiny_loaded)
    assert "s008.json" not in chosen.rounds[0].scores
    assert "s009.txt" in chosen.rounds[0].scores
    assert chosen.cost["samples_of_all_on_all"] == 9 * 32


def test_all_of_dev_is_the_most_and_then_the_best_of_those_left_is_taken(folder, tiny_loaded):
    chosen, _, _ = run(folder, tiny_loaded, first_items=30, dev_items=500)
    assert [r.items for r in chosen.rounds] == [30, 40]
    one_round, _, _ = run(folder, tiny_loaded, first_items=99, dev_items=8, out=folder / "b" / "b")
    assert [r.items for r in one_round.rounds] == [8]
    assert one_round.names == ("s001.json",)


def test_a_context_too_long_to_be_read_counts_0_and_nothing_readable_is_an_error(
    tiny_loaded, tmp_path
):
    read = reader(tiny_loaded, obedient)
    contexts = {"long": Context("rule0 " * 500), "short": Context("rule0 rule1")}
    scores = DevScores(Codes(), contexts, read, SHORT, 0, tmp_path)
    with pytest.raises(DataError, match="context long: none of 4 dev examples"):
        scores.score(["long", "short"], 4)
    assert len(read.engine.asked) == 4
    rows = scores.rows["long"]
    assert {row["outcome"] for row in rows} == {"skipped"}
    scores.rows["long"] = [*rows[:3], {**rows[3], "outcome": "correct", "score": 1.0}]
    assert scores.score(["long"], 4) == {"long": 0.25}


def test_scores_are_what_evaluation_gives(folder, tiny_loaded, tmp_path, tiny_model_folder):
    from toy import toy_suite

    from opcd_bench.envs.task import Contexts

    context = Context("rule3 rule1")
    read = reader(tiny_loaded, obedient)
    scores = DevScores(Codes(), {"a": context}, read, SHORT, 0, tmp_path)
    suite = toy_suite(tiny_model_folder, tmp_path, max_completion_length=40)
    scored = task_scores.evaluate(
        Codes().telling(Contexts((context,))), task_scores.Asked("dev", 10, 1), told=True,
        loaded=tiny_loaded, engine=read.engine, suite=suite, seed=0,
    )  # fmt: skip
    assert scores.score(["a"], 10)["a"] == scored.metrics["accuracy"]


# --- rules that score nothing ---------------------------------------------------------------------


def test_random_and_first_score_nothing_and_load_no_model(folder):
    def no_model():
        raise AssertionError("a model was loaded")

    for rule, count in (("random", 1), ("first-1", 1), ("first-3", 3)):
        selection = Selection(Codes(["dev"]), folder, rule, 0, SHORT, 32)
        chosen, paths = selection.run(None, no_model, QuietReporter())
        assert len(chosen.names) == len(paths) == count
        made = context_file.read(paths[-1]).provenance["selected"]
        assert (made["split"], made["cost"], made["rule"]) == (None, None, rule)
    names = ("s000.json", "s001.json", "s002.json")
    assert chosen.names == names
    assert [path.name for path in paths] == ["first-3.1.json", "first-3.2.json", "first-3.3.json"]


def test_the_best_of_contexts_that_all_tell_the_same_is_chosen_without_a_score(folder, tmp_path):
    def no_model():
        raise AssertionError("a model was loaded")

    for name in list(RULES)[1:]:
        (folder / f"{name}.json").unlink()
    for again in ("", "s001.txt"):
        if again:
            (folder / again).write_text(RULES["s000"])
        selection = Selection(Codes([]), folder, "best", 0, SHORT, 32)
        chosen, (path,) = selection.run(None, no_model, QuietReporter())
        assert (chosen.names, chosen.rounds, chosen.plain) == (("s000.json",), (), None)
        assert context_file.read(path).text == RULES["s000"]


def test_random_goes_by_the_seed(folder):
    names = sorted(candidates_in(folder))
    drawn = [without_scores(Codes(), names, "random", seed).names for seed in range(30)]
    assert len(set(drawn)) > 4
    assert drawn[3] == without_scores(Codes(), names, "random", 3).names


@pytest.mark.parametrize(
    ("rule", "told"),
    [("worst", "allowed: best"), ("first-0", "allowed: best"), ("first-9", "only 8 contexts")],
)
def test_an_unknown_rule_or_too_many_are_refused(folder, rule, told):
    with pytest.raises(ConfigError, match=told):
        without_scores(Codes(), sorted(candidates_in(folder)), rule, 0)


def test_a_folder_without_contexts_names_those_below_it(folder, tmp_path):
    with pytest.raises(DataError, match=r"there are contexts in .*contexts"):
        candidates_in(tmp_path)
    with pytest.raises(DataError, match="opcd-bench extract makes one"):
        candidates_in(tmp_path / "absent")


def test_a_choice_that_a_suite_may_be_using_is_not_overwritten_by_another(folder, tiny_loaded):
    _, (path,), _ = run(folder, tiny_loaded)
    before = path.read_bytes()
    (folder / "s001.json").unlink()
    with pytest.raises(StoreError, match="holds an earlier, different choice"):
        run(folder, tiny_loaded)
    assert path.read_bytes() == before


@pytest.mark.parametrize("rule", ["best", "random", "first-2"])
def test_the_same_choice_stays_whichever_version_makes_it(folder, tiny_loaded, monkeypatch, rule):
    _, paths, _ = run(folder, tiny_loaded, rule)
    before = [path.read_bytes() for path in paths]
    monkeypatch.setattr(select, "__version__", "99.0")
    _, again, _ = run(folder, tiny_loaded, rule)
    assert again == paths
    assert [path.read_bytes() for path in paths] == before


def test_a_choice_by_another_rule_is_another_choice_though_it_tells_the_same(folder, tiny_loaded):
    """What is called drawn at random must not say that it was the best."""
    out = folder.parent / "chosen.json"
    first, _, _ = run(folder, tiny_loaded, "first-1", out)
    assert first.names == without_scores(Codes(), sorted(candidates_in(folder)), "random", 0).names
    with pytest.raises(StoreError, match="holds an earlier, different choice"):
        run(folder, tiny_loaded, "random", out)


def test_no_dev_examples_is_an_error(folder, tiny_loaded, tmp_path):
    scores = DevScores(Codes(), {}, reader(tiny_loaded, obedient), SHORT, 0, tmp_path)
    scores.examples = []
    with pytest.raises(DataError, match="no dev examples"):
        best(scores, [], 4, 8, QuietReporter())


def test_the_rows_of_every_score_lie_on_disk(folder, tiny_loaded):
    run(folder, tiny_loaded)
    files = sorted(folder.glob("selected/scores-*/*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(rows) == 112
    assert {row["split"] for row in rows} == {"dev"}
    assert {row["reading"] for row in rows} == {"told", "plain"}
