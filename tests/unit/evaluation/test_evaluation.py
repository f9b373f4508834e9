"""Outcomes are kept apart, unscored is not zero, and the protocol's hash knows what matters."""

import pytest
import torch
from opcd_bench.tasks.rule_math import RuleMath
from toy import Toy, toy_suite

from opcd_bench.envs.task import OWN_METRICS, Context, Contexts, Episode, Example, Grade, Turn
from opcd_bench.errors import CellFailed, DataError
from opcd_bench.evaluation import scores, task_scores
from opcd_bench.evaluation.scores import OUTCOMES, UNSCORED
from opcd_bench.evaluation.task_scores import Asked, asked, asked_of_retention, evaluate
from opcd_bench.rollout.engine import Reply, Sampling
from opcd_bench.rollout.hf import HFEngine

ENDINGS = {
    "right": (1.0, "stop"),
    "half": (0.5, "stop"),
    "wrong": (0.0, "stop"),
    "gibberish": (None, "stop"),
    "endless": (None, "length"),
    "late": (0.0, "length"),
    "boom": (0.0, "stop"),
}


class Scripted(Episode):
    """Ends as its example's word says; ``boom`` raises."""

    def __init__(self, example: Example) -> None:
        self.word = example.content["word"]
        self.messages = [{"role": "user", "content": self.word}]

    def step(self, reply: str) -> Turn:
        if self.word == "boom":
            raise RuntimeError("the environment broke")
        return Turn((), done=True)

    def grade(self) -> Grade:
        return Grade(ENDINGS[self.word][0], None, "as scripted")


class Script(Toy):
    def __init__(self, words, version=1):
        super().__init__()
        self.words = words
        self.version = version

    def examples(self, split):
        return [Example({"word": word}) for word in self.words]

    def open(self, example, seed):
        return Scripted(example)


class Parrot:
    """An engine that writes one token and ends as the prompt's word says; keeps its requests."""

    def __init__(self, loaded) -> None:
        self.loaded = loaded
        self.asked = []

    def generate(self, requests, sampling: Sampling):
        self.asked += requests
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        prompt = self.loaded.tokenizer.decode(list(request.prompt_ids))
        (word,) = [w for w in ENDINGS if w in prompt]
        return Reply((5, 2), (0.0, 0.0), "x", ENDINGS[word][1])


def test_a_reply_that_the_grader_cannot_bear_stays_in_the_mean(tiny_loaded, suite):
    task = RuleMath()
    (one, *_) = task.examples("test")
    said = [f"Answer: {one.reference}", *["Answer: " + "9" * 5000] * 4, *["Answer: 1000"] * 3]

    class Says:
        def generate(self, requests, sampling):
            return [Reply((5, 2), (0.0, 0.0), text, "stop") for text in said]

    found = evaluate(
        task, Asked("test", 1, 8), told=False, loaded=tiny_loaded, engine=Says(), suite=suite,
        seed=0,
    )  # fmt: skip
    assert found.metrics["accuracy"] == 0.125
    assert (found.metrics["unparsable_rate"], found.metrics["wrong_rate"]) == (0.5, 0.375)
    assert found.n_unscored == 0


def score(
    words, loaded, suite, *, engine=None, split="test", items=100, samples=1, task=Script, **values
):
    settings = {"told": False, "seed": 0, **values}
    return evaluate(
        task(words),
        Asked(split, items, samples),
        loaded=loaded,
        engine=engine or Parrot(loaded),
        suite=suite,
        **settings,
    )


@pytest.fixture
def suite(tiny_model_folder, tmp_path):
    return toy_suite(tiny_model_folder, tmp_path)


def test_outcomes_are_kept_apart_and_sum_to_all(tiny_loaded, suite):
    found = score(list(ENDINGS), tiny_loaded, suite)
    told = [row["outcome"] for row in found.samples]
    assert told == ["correct", "wrong", "wrong", "unparsable", "truncated", "truncated", "failed"]
    assert sum(told.count(outcome) for outcome in OUTCOMES) == found.n == 7
    rates = {name: found.metrics[f"{name}_rate"] for name in OUTCOMES}
    assert rates == {
        "correct": 1 / 6, "wrong": 2 / 6, "unparsable": 1 / 6, "truncated": 2 / 6,
        "failed": 1 / 7, "skipped": 0.0,
    }  # fmt: skip


def test_unparsable_counts_as_nothing_won_and_failed_does_not_count(tiny_loaded, suite):
    found = score(["right", "gibberish", "boom"], tiny_loaded, suite)
    assert found.metrics["accuracy"] == 0.5
    assert (found.n, found.n_unscored) == (3, 1)
    assert [scores.score_of(row) for row in found.samples] == [1.0, 0.0, None]
    assert "the environment broke" in found.samples[2]["why"]


class Twice(Script):
    """Another grader takes everything that was said for right."""

    def open(self, example, seed):
        episode = Scripted(example)
        own = episode.grade
        episode.grade = lambda: Grade(own().score, None, "as scripted", {"kinder": 1.0})
        return episode


def test_what_another_grader_says_is_a_metric_beside_the_accuracy(tiny_loaded, suite):
    found = score(["right", "wrong", "gibberish", "boom"], tiny_loaded, suite, task=Twice)
    assert (found.metrics["accuracy"], found.metrics["kinder"]) == (1 / 3, 1.0)
    assert [row.get("also") for row in found.samples] == [{"kinder": 1.0}] * 3 + [None]


class Sometimes(Script):
    """Another grader speaks of what was right alone."""

    def open(self, example, seed):
        episode = Scripted(example)
        own = episode.grade
        episode.grade = lambda: Grade(own().score, None, "", {"kinder": 1.0} if own().score else {})
        return episode


def test_another_grader_that_speaks_of_some_answers_alone_is_refused(tiny_loaded, suite):
    with pytest.raises(CellFailed, match=r"also = \{\} where another has \{'kinder'\}.*in every"):
        score(["right", "wrong"], tiny_loaded, suite, task=Sometimes)


def test_without_another_grader_neither_rows_nor_metrics_speak_of_one(tiny_loaded, suite):
    found = score(["right", "wrong"], tiny_loaded, suite)
    assert not any("also" in row for row in found.samples)
    assert set(found.metrics) == {
        "accuracy", "parse_rate", "reply_tokens", *(f"{name}_rate" for name in OUTCOMES)
    }  # fmt: skip
    assert set(found.metrics) == set(OWN_METRICS)


@pytest.mark.parametrize("name", OWN_METRICS)
def test_no_other_grader_takes_the_name_of_what_is_measured_on_every_task(name):
    with pytest.raises(ValueError, match=f"also has '{name}', which is measured on every task"):
        Grade(0.0, None, "wrong", {"kinder": 1.0, name: 1.0})


def test_partial_credit_enters_the_accuracy(tiny_loaded, suite):
    assert score(["half", "right"], tiny_loaded, suite).metrics["accuracy"] == 0.75


def test_the_parse_rate_is_not_the_accuracy(tiny_loaded, suite):
    found = score(["wrong", "late", "gibberish", "endless"], tiny_loaded, suite)
    assert found.metrics["accuracy"] == 0.0
    assert found.metrics["parse_rate"] == 0.5


def test_where_nothing_could_be_scored_there_is_no_number_but_how_much_failed(tiny_loaded, suite):
    found = score(["boom"], tiny_loaded, suite)
    assert found.metrics["accuracy"] is None and found.metrics["parse_rate"] is None
    assert found.metrics["failed_rate"] == 1.0
    assert (found.n, found.n_unscored) == (1, 1)
    whole = score(["right"], tiny_loaded, suite)
    assert whole.metrics.keys() == found.metrics.keys()


def test_an_over_long_prompt_is_skipped_and_counted_as_unscored(tiny_loaded, suite):
    short = suite.model_copy(update={"max_prompt_length": 3, "overlong": "skip"})
    found = score(["right"], tiny_loaded, short)
    assert (found.n_unscored, found.metrics["skipped_rate"]) == (1, 1.0)
    assert "above the limit of 3" in found.samples[0]["why"]
    assert set(UNSCORED) < set(OUTCOMES)


def test_k_samples_an_example_each_with_noise_of_its_own(tiny_loaded, suite):
    engine = Parrot(tiny_loaded)
    found = score(["right", "wrong"], tiny_loaded, suite, engine=engine, samples=3)
    assert [row["sample"] for row in found.samples] == [0, 1, 2, 0, 1, 2]
    assert [row["outcome"] for row in found.samples] == ["correct"] * 3 + ["wrong"] * 3
    assert len({request.seed for request in engine.asked}) == 6


def test_more_samples_and_items_leave_the_noise_of_the_first_as_it_was(tiny_loaded, suite):
    seeds = []
    for words, samples in ((["right"], 1), (["wrong", "right"], 2)):
        engine = Parrot(tiny_loaded)
        score(words, tiny_loaded, suite, engine=engine, samples=samples)
        seeds.append({request.seed for request in engine.asked})
    assert seeds[0] < seeds[1]


def test_dev_and_test_and_another_seed_have_other_noise(tiny_loaded, suite):
    seeds = []
    for values in ({"split": "dev"}, {"split": "test"}, {"split": "test", "seed": 1}):
        engine = Parrot(tiny_loaded)
        score(["right"], tiny_loaded, suite, engine=engine, **values)
        seeds.append(engine.asked[0].seed)
    assert len(set(seeds)) == 3


def test_greedy_decoding_ignores_the_seed_and_sampling_does_not(tiny_loaded, suite):
    def replies(temperature, seed):
        settings = suite.model_copy(update={"eval_temperature": temperature})
        engine = HFEngine(tiny_loaded)
        found = evaluate(Toy(), Asked("test", 2, 1), told=False, loaded=tiny_loaded,
                         engine=engine, suite=settings, seed=seed)  # fmt: skip
        return [row["turns"][0]["reply"] for row in found.samples]

    assert replies(0.0, 0) == replies(0.0, 1)
    assert replies(1.0, 0) != replies(1.0, 1)
    assert replies(1.0, 0) == replies(1.0, 0)


def test_told_prompts_hold_the_context_and_the_record_stays_plain(tiny_loaded, suite):
    prompts = []
    for told in (False, True):
        engine = Parrot(tiny_loaded)
        found = score(["right"], tiny_loaded, suite, engine=engine, told=told)
        prompts.append(tiny_loaded.tokenizer.decode(list(engine.asked[0].prompt_ids)))
        assert found.samples[0]["turns"][0]["messages"] == [{"role": "user", "content": "right"}]
        assert found.samples[0]["reading"] == ("told" if told else "plain")
    context = Toy().context().text
    assert context not in prompts[0] and context in prompts[1]


def protocol_hash(
    loaded,
    suite,
    *,
    words=("right", "wrong"),
    split="test",
    items=2,
    samples=1,
    version=1,
    **values,
):
    return evaluate(
        Script(list(words), version),
        Asked(split, items, samples),
        loaded=loaded,
        engine=Parrot(loaded),
        suite=suite,
        **{"told": False, "seed": 0, **values},
    ).protocol_hash


def test_a_suite_asks_test_several_times_dev_once_and_retention_without_a_limit_whole(suite):
    settings = {"dev_items": 3, "test_items": 5, "eval_samples": 4, "retention_items": None}
    own, task = suite.model_copy(update=settings), Toy()
    assert asked(own, "dev") == ("dev", 3, 1) and asked(own, "test") == ("test", 5, 4)
    assert asked_of_retention(own, task) == ("test", len(task.examples("test")), 1)
    few = own.model_copy(update={"retention_items": 2})
    assert asked_of_retention(few, task) == ("test", 2, 1)


OTHER = {
    "the task's version": {"version": 2},
    "the split": {"split": "dev"},
    "the examples": {"words": ("right", "half")},
    "how many": {"items": 1},
    "how often": {"samples": 2},
}


@pytest.mark.parametrize("what", OTHER)
def test_the_protocols_hash_changes_with(what, tiny_loaded, suite):
    assert protocol_hash(tiny_loaded, suite, **OTHER[what]) != protocol_hash(tiny_loaded, suite)


@pytest.mark.parametrize(
    "setting",
    [{"eval_temperature": 0.5}, {"eval_top_p": 0.5}, {"eval_top_k": 3}, {"overlong": "skip"},
     {"max_completion_length": 7}, {"max_prompt_length": 500}],
)  # fmt: skip
def test_the_protocols_hash_changes_with_the_setting(setting, tiny_loaded, suite):
    other = suite.model_copy(update=setting)
    assert protocol_hash(tiny_loaded, other) != protocol_hash(tiny_loaded, suite)


def test_the_protocols_hash_changes_with_the_chat_template(tiny_loaded, suite):
    before = protocol_hash(tiny_loaded, suite)
    tiny_loaded.tokenizer.chat_template += "{# other #}"
    assert protocol_hash(tiny_loaded, suite) != before


def test_the_protocols_hash_does_not_change_with_weights_reading_seed_or_training(
    tiny_loaded, suite
):
    before = protocol_hash(tiny_loaded, suite)
    with torch.no_grad():
        tiny_loaded.model.get_output_embeddings().weight.mul_(2)
    assert protocol_hash(tiny_loaded, suite) == before
    assert protocol_hash(tiny_loaded, suite, told=True) == before
    assert protocol_hash(tiny_loaded, suite, seed=3) == before
    trained = suite.model_copy(update={"max_steps": 50, "temperature": 0.5})
    assert protocol_hash(tiny_loaded, trained) == before


def test_a_split_without_examples_is_refused(tiny_loaded, suite):
    with pytest.raises(DataError, match="no test examples"):
        score([], tiny_loaded, suite)


def test_a_task_without_a_context_has_nothing_to_distil():
    class Mute(Toy):
        def context(self):
            return Context("  ")

    with pytest.raises(DataError, match=r"empty context.*--retention"):
        task_scores.contexts_of(Mute())
    assert task_scores.contexts_of(Toy()) == Contexts((Toy().context(),))
