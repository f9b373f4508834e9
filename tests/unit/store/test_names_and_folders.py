"""Whose files a folder holds: foreign ones are refused and stay, and names lead nowhere else."""

import json
from pathlib import Path

import pytest

from opcd_bench.config.suite import make_suite
from opcd_bench.errors import ConfigError, StoreError
from opcd_bench.experience.folder import ExperienceDir
from opcd_bench.models.micro import pretrain
from opcd_bench.report.analysis import external
from opcd_bench.report.page import folder as report_folder
from opcd_bench.store.chain_dir import chain
from opcd_bench.store.files import is_temporary, remove_temporaries, temporary_beside
from opcd_bench.store.names import checked_name
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SuiteDir

BAD = [
    "", " ", ".", "..", "../x", "../../x", "/tmp/x", "a/b", "a\\b", "a\nb", "a\x1b[2J", "a\x00",
    "-a", ".hidden", "a b", "größer", "a" * 201, "a\n",
]  # fmt: skip

FOREIGN = [
    {".work.tmp/notes": "mine"},
    {".x.tmp": "mine"},
    {".lock": "mine"},
    {".git/HEAD": "mine"},
    {".config.json.0a1b2c3d.tmp": "mine"},
    {"suite.json": json.dumps({"name": "my tests", "version": 3})},
    {"SEALED": "for ever"},
    {"traces.json": json.dumps({"spans": []})},
    {"report.json": json.dumps({"files": {"thesis.tex": "draft 3"}}), "thesis.tex": "mine"},
    {"recipe.json": json.dumps({"flour": "500 g"})},
    {"config.json": "{}"},
]


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("files", FOREIGN, ids=lambda files: next(iter(files)))
@pytest.mark.parametrize(
    "command",
    [
        lambda path: RunDir.open(path, {"method": "opcd"}, {}),
        lambda path: SuiteDir(path).merge({"methods": [], "tasks": []}),
        lambda path: ExperienceDir(path, "memoryless").open(),
        lambda path: report_folder.write(path, {"index.html": b"<p>"}),
        lambda path: pretrain.refuse_foreign(path),
    ],
    ids=["run", "suite", "extract", "report", "micro pretrain"],
)
def test_a_folder_that_is_not_ours_is_refused_untouched_and_nobody_is_told_to_remove_it(
    tmp_path, files, command
):
    mine = written(tmp_path / "mine", files)
    before = everything(tmp_path)
    with pytest.raises(StoreError) as refused:
        command(mine)
    assert everything(tmp_path) == before
    assert "rm " not in str(refused.value) and str(mine) in str(refused.value)


@pytest.mark.parametrize("name", [".x.tmp", ".work.tmp", ".a.0a1b2c3d.tmp", ".opcd-bench.tmp", "a"])
def test_only_names_that_we_alone_give_are_ever_removed(tmp_path, name):
    (tmp_path / name).mkdir()
    ours = temporary_beside(tmp_path / "rows.jsonl")
    ours.write_text("half a row")
    assert not is_temporary(name) and is_temporary(ours.name)
    assert remove_temporaries(tmp_path) == [ours.name]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    name = "a" * 255
    assert len(temporary_beside(tmp_path / name).name) <= 255


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_a_bad_name_is_refused_wherever_it_becomes_a_file_or_a_folder(tmp_path, name):
    suite = SuiteDir(tmp_path / "suite")
    suite.merge({})
    before = everything(tmp_path)
    with pytest.raises(ConfigError, match="name"):
        make_suite({"methods": ["opcd"], "tasks": ["rule_math"], "name": name}, "command line")
    with pytest.raises(ConfigError, match="--name"):
        external.store(suite.path, name, {"measures": [], "samples": []})
    for made in (checked_name, suite.run, lambda name: chain(suite.path, name)):
        with pytest.raises(ValueError, match="name"):
            made(name)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["quick", "custom-0a1b2c", "opcd_v2", "run.3", "a=1,b=2", "7"])
def test_a_good_name_stays_as_it_is(name):
    assert checked_name(name) == name
    assert make_suite({"methods": ["opcd"], "tasks": ["a"], "name": name}, "here").name == name
