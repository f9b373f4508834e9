"""Rows from a folder or the Hub; and what is said where there are none."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_data import SHARED, write_csv, write_gsm8k, write_jsonl, write_parquet

from opcd_bench.envs import data_sets
from opcd_bench.envs.data_sets import DataPart, HubSplit
from opcd_bench.errors import DataError, MissingData

HUB = HubSplit("someone/a_set", "train", "main")


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """As with HF_HUB_OFFLINE=1, and with an empty cache."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows(name="a_set", split="train", data_dir=None, hub=HUB, files=()):
    return list(data_sets.rows(name, split, data_dir=data_dir, hub=hub, files=files))


def test_a_folder_of_its_name_comes_before_the_hub(tmp_path):
    write_jsonl(tmp_path / "a_set" / "train.jsonl", [{"n": 1}, {"n": 2}])
    write_csv(tmp_path / "a_set" / "mine.csv", [{"n": 3}])
    assert rows(data_dir=tmp_path) == [{"n": 1}, {"n": 2}]
    assert rows(data_dir=str(tmp_path)) == rows(data_dir=tmp_path)
    assert rows(split="test", data_dir=tmp_path, files=("mine",)) == [{"n": "3"}]


def test_shards_are_read_in_order(tmp_path):
    for number in (1, 0, 2):
        file = tmp_path / "a_set" / "main" / f"train-0000{number}-of-00003.parquet"
        write_parquet(file, [{"n": number}])
    assert rows(data_dir=tmp_path) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_folder_without_the_split_says_what_it_holds_and_what_to_do(tmp_path):
    write_jsonl(tmp_path / "a_set" / "test.jsonl", [{"n": 1}])
    with pytest.raises(MissingData) as caught:
        rows(data_dir=tmp_path, files=("mine",))
    assert str(caught.value) == (
        f"data set 'a_set': {tmp_path}/a_set holds test.jsonl, but no file of the train split. "
        "Name such a file train.jsonl, mine.jsonl (or .json, .parquet, .csv), or download the data "
        f"set: hf download someone/a_set --repo-type dataset --local-dir {tmp_path}/a_set"
    )


def test_a_data_dir_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"--data-dir .*nowhere: there is no such folder; make it"):
        rows(data_dir=tmp_path / "nowhere")
    (tmp_path / "a file").touch()
    with pytest.raises(DataError, match="there is no such folder"):
        rows(data_dir=tmp_path / "a file")


def test_parts_that_are_not_required_may_be_absent_from_a_folder_alone(tmp_path, no_hub):
    parts = (
        DataPart("train", ("train", "all"), HUB),
        DataPart("dev", ("validation", "dev"), HUB, required=False),
        DataPart("test", ("test",), HUB, required=False),
    )
    write_jsonl(tmp_path / "a_set" / "all.jsonl", [{"n": 1}])
    write_jsonl(tmp_path / "a_set" / "dev.jsonl", [{"n": 2}])
    found = data_sets.pools("a_set", parts, data_dir=tmp_path)
    assert {split: list(of) for split, of in found.items()} == {
        "train": [{"n": 1}],
        "dev": [{"n": 2}],
    }
    with pytest.raises(MissingData):
        data_sets.pools("a_set", parts[1:], data_dir=None)


def test_rows_come_from_the_hub_s_loader_with_its_configuration_and_split(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hub = tmp_path / "repository"  # a local folder is loaded through the same function
    for config, number in (("main", 1), ("socratic", 2)):
        write_parquet(hub / config / "train-00000-of-00001.parquet", [{"n": number}])
        write_parquet(hub / config / "test-00000-of-00001.parquet", [{"n": -number}] * 5000)
    (hub / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n"
        "    path: main/train-*\n  - split: test\n    path: main/test-*\n"
        "- config_name: socratic\n  data_files: socratic/*\n---\n"
    )
    assert rows(hub=HubSplit(str(hub), "train", "main")) == [{"n": 1}]
    assert rows(hub=HubSplit(str(hub), "test", "main")) == [{"n": -1}] * 5000
    pattern = HubSplit(str(hub), "train", "socratic", files="socratic/train*.parquet")
    assert rows(hub=pattern) == [{"n": 2}]
    for hub_split, reason in (
        (HubSplit(str(hub), "validation", "main"), r"ValueError: Unknown split"),
        (HubSplit(str(hub), "train", "other"), r"ValueError: BuilderConfig 'other' not found"),
    ):
        with pytest.raises(MissingData, match=reason):
            rows(hub=hub_split)


def test_a_set_that_is_a_script_is_missing_and_not_a_bug_of_ours(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted" / "scripted.py").write_text("")
    with pytest.raises(MissingData, match="RuntimeError: Dataset scripts are no longer supported"):
        rows(hub=HubSplit(str(tmp_path / "scripted")))


def test_without_folder_and_hub_it_says_what_to_download_where_to_put_it_and_what_to_type(
    tmp_path, no_hub
):
    with pytest.raises(MissingData) as caught:
        rows(files=("all",))
    assert str(caught.value) == (
        "data set 'a_set': --data-dir was not given, and someone/a_set could not be read from the "
        "Hub (ConnectionError: Couldn't reach 'someone/a_set' on the Hub (OfflineModeIsEnabled)). "
        "On a machine with internet, type: hf download someone/a_set --repo-type dataset "
        "--local-dir DATA/a_set; or put train.jsonl, all.jsonl (or .json, .parquet, .csv) into "
        "DATA/a_set. Then add --data-dir DATA"
    )
    alone = HubSplit("someone/a_train_set", revision="refs/convert/parquet", alone=True)
    with pytest.raises(MissingData) as caught:
        rows(data_dir=tmp_path, hub=alone)
    said = str(caught.value)
    assert f"{tmp_path}/a_set is not there, and" in said
    assert f"--revision refs/convert/parquet --local-dir {tmp_path}/a_set/train;" in said
    assert said.endswith(f"Then add --data-dir {tmp_path}")


def test_local_only_asks_nothing_of_the_hub(monkeypatch):
    import datasets

    def asked(*words, **named):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(datasets, "load_dataset", asked)
    with data_sets.local_only(), pytest.raises(MissingData, match="the Hub was not asked"):
        rows()
    with pytest.raises(AssertionError, match="the Hub was asked"):
        rows()


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    assert data_sets.value_of({"a": None}, "a", "a set") is None
    with pytest.raises(DataError, match=r"data set 'a set': a row has no column 'c'; it has a, b"):
        data_sets.value_of({"a": 1, "b": 2}, "c", "a set")


def opcd(*words, **environment):
    import os

    return subprocess.run(
        [str(Path(sys.executable).parent / "opcd-bench"), *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
        check=False,
    )


def test_hf_hub_offline_is_honoured_and_check_says_how_to_get_the_data(tmp_path):
    file = str(Path(__file__).parents[3] / "tasks" / "gsm8k.py")
    done = opcd("check", file, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    last = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert done.returncode == 1 and len(last) == 1
    assert last[0].startswith("FAIL  the data that it reads can be had: data set 'gsm8k'")
    assert "OfflineModeIsEnabled" in last[0] and "hf download openai/gsm8k" in last[0]
    write_gsm8k(tmp_path)
    done = opcd("check", file, "--data-dir", str(tmp_path), HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stdout
    assert "15 train, 45 dev, 20 test" in done.stdout


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the samples of {SHARED} are not here")
def test_the_samples_beside_a_checkout_are_read():
    found = data_sets.rows("gsm8k", "train", data_dir=SHARED, hub=HUB)
    assert re.match("Natalia sold clips to 48", next(found)["question"])
    assert len(list(found)) == 7472
    aime = list(data_sets.rows("aime", "train", data_dir=SHARED, hub=HUB, files=("aime-2024",)))
    assert aime[0]["reward_model"]["ground_truth"] == "540" and len(aime) == 960
