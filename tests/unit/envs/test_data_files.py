"""Which files are a split's, and the rows in them."""

import json
import re

import pytest
from small_data import write_csv, write_jsonl, write_parquet

from opcd_bench.envs.data_files import BATCH, found_files, rows_of
from opcd_bench.errors import DataError

ROWS = [{"n": 1, "text": "a, b"}, {"n": 2, "text": "“ü”\nline"}]


def found(folder, *names, config=None):
    return [str(path.relative_to(folder)) for path in found_files(folder, names, config)]


def read(path):
    return list(rows_of([path]))


def test_every_form_of_file_gives_the_same_rows(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    write_jsonl(tmp_path / "lines.json", ROWS)
    (tmp_path / "list.json").write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    write_parquet(tmp_path / "a.parquet", ROWS)
    write_csv(tmp_path / "a.csv", ROWS)
    write_csv(tmp_path / "b.csv", ROWS, ";")
    for name in ("a.jsonl", "lines.json", "list.json", "a.parquet"):
        assert read(tmp_path / name) == ROWS, name
    as_text = [{"n": "1", "text": "a, b"}, {"n": "2", "text": "“ü”\nline"}]
    assert read(tmp_path / "a.csv") == read(tmp_path / "b.csv") == as_text


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"n": 1}\n\n{"n": 2}\n')
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfn;text\n1;a\n")
    assert read(tmp_path / "a.jsonl") == [{"n": 1}, {"n": 2}]
    assert read(tmp_path / "a.csv") == [{"n": "1", "text": "a"}]


def test_files_are_read_as_rows_are_asked_for(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"n": n} for n in range(BATCH + 3)])
    (tmp_path / "b.jsonl").write_text('{"n": 1}\nnot JSON\n')
    rows = rows_of([tmp_path / "a.parquet", tmp_path / "b.jsonl"])
    assert [next(rows)["n"] for _ in range(BATCH + 4)] == [*range(BATCH + 3), 1]
    with pytest.raises(DataError, match="line 2"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"n": 1}\n{"n": \n', r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", "[1, 2]\n", r"a\.jsonl, row 1: a row must be a JSON object, not '1'"),
        ("a.json", "[{]", r"a\.json: not valid JSON"),
        ("a.json", "3\n", r"line 1: a row must be a JSON object, not '3'"),
        ("a.csv", "n,text\n1,a\n2\n", r"a\.csv, line 3: the header has 2 columns"),
        ("a.csv", "n,text\n1,a,b\n", r"a\.csv, line 2: the header has 2 columns"),
        ("a.parquet", "PAR1 not", r"a\.parquet: cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path / name)


def test_a_file_that_is_not_utf8_is_said(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"text": "für"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read: 'utf-8'"):
        read(tmp_path / "a.jsonl")


def test_a_split_is_found_under_each_name_that_it_may_have(tmp_path):
    for name in ("dev.csv", "notes.txt", "train.txt", "trainer.jsonl"):
        (tmp_path / name).touch()
    assert found(tmp_path, "train") == []
    assert found(tmp_path, "validation", "dev") == ["dev.csv"]


def test_a_download_of_the_hub_s_is_found_as_it_lies(tmp_path):
    for name in (
        "main/train-00000-of-00002.parquet",
        "main/train-00001-of-00002.parquet",
        "socratic/train-00000-of-00001.parquet",
        "data/test-00000-of-00001.parquet",
        "validation/data/train-00000-of-00001.parquet",
        "validation/dataset_infos.json",
        "binary/ethos/0000.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shards = [f"main/train-0000{n}-of-00002.parquet" for n in (0, 1)]
    assert found(tmp_path, "train", config="main") == shards
    assert found(tmp_path, "train") == []
    assert found(tmp_path, "test") == ["data/test-00000-of-00001.parquet"]
    assert found(tmp_path, "ethos", config="binary") == ["binary/ethos/0000.parquet"]
    (tmp_path / "validation" / "dataset_infos.json").unlink()
    assert found(tmp_path, "dev", "validation") == ["validation/data/train-00000-of-00001.parquet"]


def test_a_split_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "train.jsonl").touch()
    (tmp_path / "train.csv").touch()
    with pytest.raises(DataError, match=re.escape("train.csv and train.jsonl both hold the train")):
        found_files(tmp_path, ("train",))
    (tmp_path / "train.csv").rename(tmp_path / "dapo_train.csv")
    with pytest.raises(DataError, match="keep one of them"):
        found_files(tmp_path, ("train", "dapo_train"))


def test_a_split_of_which_shards_are_missing_is_refused(tmp_path):
    (tmp_path / "train-00000-of-00003.parquet").touch()
    (tmp_path / "train-00002-of-00003.parquet").touch()
    with pytest.raises(DataError, match="2 of the 3 files of the train split are there"):
        found_files(tmp_path, ("train",))
