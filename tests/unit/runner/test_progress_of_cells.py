"""How far the cells of a grid are, read off their files while others write them."""

from opcd_bench.runner.hands import _Progress


def test_only_what_is_new_is_counted_and_a_run_that_went_back_anew(tmp_path):
    runs = [tmp_path / name for name in "ab"]
    progress = _Progress(runs)
    assert progress.look() == (0, 0)
    for run in runs:
        run.mkdir()
        (run / "config.json").write_text("{}")
    rows = runs[0] / "train.jsonl"
    rows.write_text("{}\n{}\n{")
    assert progress.look() == (2, 0)
    rows.write_text("{}\n{}\n{}\n")
    assert progress.look() == (3, 0)
    rows.write_text("{}\n")  # resumed from a checkpoint before
    assert progress.look() == (1, 0)
    (runs[0] / "DONE").write_text("{}")
    rows.write_text("{}\n{}\n")
    assert progress.look() == (2, 1)
    assert progress.look() == (2, 1)
