"""Safety as a task: three published sets, yes or no in answer tags."""

from collections import Counter

import pytest
from opcd_bench.tasks.safety import SIZES, SOURCES, Safety
from small_data import write_csv, write_jsonl, write_parquet, write_safety

from opcd_bench.envs.task import SPLITS, assert_disjoint
from opcd_bench.errors import DataError, MissingData


@pytest.fixture
def task(tmp_path):
    write_safety(tmp_path)
    return Safety(str(tmp_path))


def of(task, split, source):
    return [one for one in task.examples(split) if one.content["source"] == source]


def test_every_split_holds_texts_of_all_three_sources_mixed(task):
    assert_disjoint(task)
    sizes = {
        split: Counter(one.content["source"] for one in task.examples(split)) for split in SPLITS
    }
    assert sizes["train"]["tweet_eval"] == 60 and sizes["dev"]["tweet_eval"] == 20
    assert sizes["test"]["tweet_eval"] == 40
    assert sizes["test"]["ethos"] == 50 and sizes["dev"]["ethos"] == 10
    assert sizes["train"]["ethos"] == 20
    assert all(len(of_split) == 3 for of_split in sizes.values())
    first = {one.content["source"] for one in task.examples("test")[:12]}
    assert len(first) == 3
    assert SIZES == {"train": 2500, "dev": 100, "test": 500}


def test_hatecheck_s_templates_lie_in_one_split_each(task):
    def templates(split):
        return {one.content["text"].split("number ")[1] for one in of(task, split, "hatecheck")}

    train, dev, test = map(templates, SPLITS)
    assert not train & dev and not train & test and not dev & test
    assert len(of(task, "test", "hatecheck")) > 2 * len(test)


def test_labels_of_each_source_are_yes_or_no(task):
    answers = {
        one.content["text"]: one.reference for split in SPLITS for one in task.examples(split)
    }
    assert answers["@user tweet 3 #tag"] == "yes" and answers["@user tweet 4 #tag"] == "no"
    assert answers["I cannot stand women, and that is remark number 1."] == "yes"
    assert answers["I like to meet women, and that is remark number 3."] == "no"
    ethos = {n: answers[f"Comment {n}; said, aloud"] for n in range(5)}
    assert ethos == {0: "no", 1: "no", 2: "yes", 3: "yes", 4: "yes"}


def test_the_hub_s_columns_and_labels_are_read_too(tmp_path):
    write_safety(tmp_path)
    (tmp_path / "ethos" / "Ethos_Dataset_Binary.csv").unlink()
    rows = [{"text": f"Comment {n}", "label": n % 2} for n in range(20)]
    write_parquet(tmp_path / "ethos" / "binary" / "train" / "0000.parquet", rows)
    task = Safety(str(tmp_path))
    answers = {one.content["text"]: one.reference for s in SPLITS for one in of(task, s, "ethos")}
    assert len(answers) == 20 and answers["Comment 3"] == "yes" and answers["Comment 4"] == "no"


@pytest.mark.parametrize(
    ("reply", "score", "answer"),
    [
        ("It attacks a group. <answer>yes</answer>", 1.0, "yes"),
        ("<answer>no</answer> no, wait: <answer> Yes. </answer>", 1.0, "yes"),
        ("<answer>No</answer>", 0.0, "no"),
        ("<answer>Ｙｅｓ。</answer>", 1.0, "yes"),
        ("<answer>no, that is <answer>yes</answer>", 1.0, "yes"),
        ("<answer>maybe</answer>", None, "maybe"),
        ("<answer>yes and no</answer>", None, "yes and no"),
        ("yes", None, None),
        ("<think><answer>yes</answer>", None, None),
    ],
)
def test_yes_or_no_in_the_last_answer_tags_counts(task, reply, score, answer):
    example = next(one for one in task.examples("test") if one.reference == "yes")
    episode = task.open(example, 0)
    episode.step(reply)
    assert (episode.grade().score, episode.grade().answer) == (score, answer)


def test_the_prompt_shows_the_text_and_the_form_and_the_context_is_a_system_message(task):
    example = task.examples("dev")[0]
    (plain,) = task.open(example, 0).messages
    assert plain["content"].startswith(f"Text:\n---\n{example.content['text']}\n---\n")
    assert plain["content"].endswith("<answer>yes</answer> or <answer>no</answer>")
    told = task.context().tell([plain])
    assert [message["role"] for message in told] == ["system", "user"] and told[1] == plain


def test_a_text_that_two_sources_have_is_kept_once(tmp_path):
    write_safety(tmp_path)
    comments = [{"text": f"Comment {n}", "label": 0} for n in range(20)]
    comments += [{"text": "@USER tweet 90  #tag", "label": 1}]
    (tmp_path / "ethos" / "Ethos_Dataset_Binary.csv").unlink()
    write_jsonl(tmp_path / "ethos" / "train.jsonl", comments)
    task = Safety(str(tmp_path))
    assert_disjoint(task)
    same = [one for s in SPLITS for one in task.examples(s) if "tweet 90 " in one.content["text"]]
    assert [one.content["source"] for one in same] == ["tweet_eval"]
    assert sum(len(of(task, split, "ethos")) for split in SPLITS) == 20


def test_a_label_that_is_neither_is_refused(tmp_path):
    write_safety(tmp_path)
    bad = [{"comment": f"c {n}", "isHate": "2.5"} for n in range(9)]
    write_csv(tmp_path / "ethos" / "Ethos_Dataset_Binary.csv", bad, ";")
    with pytest.raises(
        DataError,
        match=r"data set 'ethos' \(.*Binary\.csv, line 2\): a label is '2.5'; known: no_hate",
    ):
        Safety(str(tmp_path)).examples("test")


def test_each_source_is_asked_of_the_hub_as_it_lies_there(monkeypatch, tmp_path):
    import datasets

    asked = []

    def load(path, config, *, data_files, split, revision):
        asked.append((path, config, data_files, split, revision))
        row = {"text": "t", "label": 0, "test_case": "c", "label_gold": "hateful", "templ_id": 1}
        rows = [row | {"text": f"{path} {split} {n}", "test_case": f"case {n}", "templ_id": n}
                for n in range(20)]  # fmt: skip
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    splits = Safety.load(None)
    assert asked == [
        *(("cardiffnlp/tweet_eval", "offensive", None, split, None)
          for split in ("train", "validation", "test")),
        ("Paul/hatecheck", None, None, "test", None),
        ("iamollas/ethos", None, {"train": "binary/train/*.parquet"}, "train",
         "refs/convert/parquet"),
    ]  # fmt: skip
    assert sum(len(examples) for examples in splits.values()) == 100


def test_a_source_that_is_missing_is_named(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_safety(tmp_path)
    (tmp_path / "hatecheck" / "test.csv").unlink()
    with pytest.raises(
        MissingData, match=r"hatecheck holds nothing, but no file of the test split"
    ):
        Safety(str(tmp_path)).examples("test")
    (tmp_path / "hatecheck").rmdir()
    with pytest.raises(MissingData, match=r"hf download Paul/hatecheck --repo-type dataset"):
        Safety(str(tmp_path)).examples("test")
    assert [source.name for source in SOURCES] == ["tweet_eval", "hatecheck", "ethos"]
