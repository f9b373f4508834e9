"""A report's folder: only changes are written, old files go, and nobody else's is touched."""

import json
import os
from pathlib import Path

import pytest

from opcd_bench.errors import StoreError
from opcd_bench.report.page import folder
from opcd_bench.store.files import temporary_beside

FILES = {"index.html": b"<p>one", "figures/a.svg": b"<svg/>", "samples/s-0.js": b"x()"}


def held(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != folder.MANIFEST
    }


def test_a_new_folder_holds_the_rendering_and_its_manifest(tmp_path):
    written = folder.write(tmp_path / "reports" / "quick", FILES)
    assert held(tmp_path / "reports" / "quick") == FILES
    assert written.page == tmp_path / "reports" / "quick" / "index.html"
    assert (len(written.changed), written.removed, written.unchanged) == (3, (), 0)
    manifest = json.loads((written.page.parent / folder.MANIFEST).read_text())
    assert sorted(manifest["files"]) == sorted(FILES)


def test_the_same_rendering_again_writes_nothing(tmp_path):
    folder.write(tmp_path, FILES)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    written = folder.write(tmp_path, FILES)
    assert (written.changed, written.removed, written.unchanged) == ((), (), 3)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_only_what_changed_is_written_and_what_is_gone_goes_with_its_folder(tmp_path):
    folder.write(tmp_path, FILES)
    kept = (tmp_path / "figures/a.svg").stat().st_ino
    new = {"index.html": b"<p>two", "figures/a.svg": b"<svg/>", "headline.md": b"| a |"}
    written = folder.write(tmp_path, new)
    assert held(tmp_path) == new
    assert sorted(written.changed) == ["headline.md", "index.html"]
    assert written.removed == ("samples/s-0.js",)
    assert not (tmp_path / "samples").exists()
    assert (tmp_path / "figures/a.svg").stat().st_ino == kept


def test_a_file_that_somebody_damaged_is_put_right(tmp_path):
    folder.write(tmp_path, FILES)
    (tmp_path / "figures/a.svg").write_bytes(b"<gvs/>")
    assert folder.write(tmp_path, FILES).changed == ("figures/a.svg",)
    assert held(tmp_path) == FILES


def test_a_users_own_file_beside_the_report_stays(tmp_path):
    folder.write(tmp_path, FILES)
    (tmp_path / "notes.md").write_text("mine")
    folder.write(tmp_path, {"index.html": b"<p>two"})
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_a_users_own_file_in_the_place_of_a_new_one_is_not_overwritten(tmp_path):
    folder.write(tmp_path, {"index.html": b"<p>one"})
    (tmp_path / "headline.md").write_text("mine")
    with pytest.raises(StoreError, match=r"headline\.md: the report has a file of that name"):
        folder.write(tmp_path, {"index.html": b"<p>two", "headline.md": b"| a |"})
    assert (tmp_path / "headline.md").read_text() == "mine"
    assert (tmp_path / "index.html").read_bytes() == b"<p>one"


def test_a_folder_of_something_else_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(StoreError, match=r"thesis\.tex.*--out") as refused:
        folder.write(tmp_path, FILES)
    assert "rm " not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "quick").write_text("a file")
    with pytest.raises(StoreError, match="is a file"):
        folder.write(tmp_path / "quick", FILES)


def test_a_manifest_that_points_outside_removes_nothing_there(tmp_path):
    outside = tmp_path / "precious"
    outside.write_text("mine")
    root = tmp_path / "report"
    folder.write(root, FILES)
    (root / folder.MANIFEST).write_text(json.dumps({"files": {"../precious": "0" * 64}}))
    for name in FILES:
        (root / name).unlink()
    with pytest.raises(StoreError, match="not in this folder"):
        folder.write(root, FILES)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("after", range(1, 6))
def test_a_kill_in_between_leaves_a_whole_page_and_the_next_rendering_is_complete(
    tmp_path, monkeypatch, after
):
    """Every write may be the last; what it leaves is ours, and no old file survives the next."""
    folder.write(tmp_path, FILES)
    new = {"index.html": b"<p>two", "figures/b.svg": b"<svg>2", "data/c.csv": b"1"}
    writes = iter(range(1, 100))
    original = folder.write_atomic

    def killed(path, data):
        if next(writes) == after:
            raise KeyboardInterrupt
        original(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.write(tmp_path, new)
    assert (tmp_path / "index.html").read_bytes() in (b"<p>one", b"<p>two")
    folder.write(tmp_path, new)
    assert held(tmp_path) == new


def test_temporary_files_of_a_killed_writer_go(tmp_path):
    folder.write(tmp_path, FILES)
    temporary_beside(tmp_path / "index.html").write_bytes(b"half")
    folder.write(tmp_path, FILES)
    assert held(tmp_path) == FILES


@pytest.mark.parametrize(
    ("suite", "out"),
    [
        ("results/quick", "reports/quick"),
        ("results/reference/micro", "reports/reference/micro"),
        ("elsewhere/quick", "elsewhere/reports/quick"),
        ("results/a/b/quick", "results/a/b/reports/quick"),
    ],
)
def test_reports_lie_beside_the_results_and_never_elsewhere(tmp_path, monkeypatch, suite, out):
    monkeypatch.chdir(tmp_path)
    assert Path(os.path.abspath(folder.default_out(Path(suite)))) == tmp_path / out
    assert folder.default_out(tmp_path / suite).resolve() == tmp_path / out


def test_the_default_below_the_working_folder_is_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(folder.default_out(Path("results/quick"))) == "reports/quick"
