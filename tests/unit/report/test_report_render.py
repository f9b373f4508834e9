"""A whole report from a results folder made by hand: the same results, the same bytes.

After a change that is meant to change the report: ``OPCD_WRITE_GOLDEN=1 pytest`` this file, and
look at the difference of tests/data/report before it is committed.
"""

import base64
import csv
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import report_suite
from report_comparison import interval

from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import external
from opcd_bench.report.analysis.load import load
from opcd_bench.report.figures import catalogue
from opcd_bench.report.page import published
from opcd_bench.report.page.render import _gaps, render

GOLDEN = Path(__file__).parents[2] / "data" / "report"
COMMAND = "opcd-bench report results/made"


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return report_suite.whole(tmp_path_factory.mktemp("results") / "made")


@pytest.fixture(scope="module")
def files(suite):
    return render(load(suite.path), command=COMMAND)


def body(page):
    """The page without style, script and figures' sizes, which no result changes."""
    text = page.decode()
    text = re.sub(r"(<style>).*?(</style>)", r"\1\2", text, flags=re.DOTALL)
    text = re.sub(r"(<script>).*?(</script>)", r"\1\2", text, flags=re.DOTALL)
    return re.sub(r'\b(width|height)="\d+"', r'\1=""', text)


@pytest.mark.parametrize(
    "name", ["headline.md", "headline.csv", "headline.tex", "index.html", "data/matrix.csv"]
)
def test_the_bytes_are_the_golden_ones(files, name):
    made = body(files[name]) if name == "index.html" else files[name].decode()
    golden = GOLDEN / name.replace("/", "-")
    if os.environ.get("OPCD_WRITE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(made, encoding="utf-8")
    assert made == golden.read_text(encoding="utf-8")


def test_other_processes_render_the_same_bytes(suite, files, tmp_path):
    """Hash seed, time zone, clock, folder and the order of files in it leave no trace."""
    copy = tmp_path / "elsewhere" / "made"
    shutil.copytree(suite.path, copy)
    program = (
        "import hashlib, json, sys\n"
        "from pathlib import Path\n"
        "from opcd_bench.report.analysis.load import load\n"
        "from opcd_bench.report.page.render import render\n"
        f"files = render(load(Path(sys.argv[1])), command={COMMAND!r})\n"
        "print(json.dumps({n: hashlib.sha256(d).hexdigest() for n, d in files.items()}))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            stdout=subprocess.PIPE, text=True,
        )
        for folder, seed, zone in ((suite.path, "1", "Asia/Tokyo"), (copy, "2", "America/Lima"))
    ]  # fmt: skip
    first, second = (json.loads(process.communicate(timeout=300)[0]) for process in processes)
    here = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    for there in (first, second):
        assert sorted(there) == sorted(here)
        assert [name for name in here if here[name] != there[name]] == []


def test_every_part_of_the_report_is_there(files):
    for name in (
        "index.html", "headline.md", "headline.csv", "headline.tex", "samples/index.js",
        "samples/toy-toy-0.js", "samples/toy-ifeval_toy-0.js", "data/frontier.csv",
        "data/areas.csv", "data/forgetting.csv", "data/curves.csv.gz", "data/matrix.csv",
        "data/instructions.csv", "data/cells.csv", "data/protocols.csv", "data/missing.csv",
        "data/external.csv", "figures/frontier-toy.svg", "figures/frontier-toy.png",
        "figures/frontier-toy.csv", "figures/forgetting-toy.svg", "figures/pairwise-toy.svg",
    ):  # fmt: skip
        assert files.get(name), name
    curves = pd.read_csv(io.BytesIO(files["data/curves.csv.gz"]), compression="gzip")
    assert {"method", "seed", "step", "metric", "value"} <= set(curves.columns) and len(curves)
    assert "data/published.csv" not in files


def test_everything_that_the_page_names_beside_it_is_rendered(files):
    named = set(
        re.findall(r"""(?:src|href|srcset)=["']([^"'#:]+)["']""", files["index.html"].decode())
    )
    assert "headline.csv" in named and "figures/frontier-toy.svg" in named
    assert named - set(files) == set()


def test_the_csv_holds_plain_numbers_of_every_row(files):
    rows = list(csv.DictReader(io.StringIO(files["headline.csv"].decode())))
    done = [row for row in rows if row["state"] == "done"]
    assert len(done) == 4
    base = [row["score"] for row in report_suite.test_rows("base", 0.15)]
    for row in done:
        assert float(row["base"]) == pytest.approx(sum(base) / len(base))
        assert 0 <= float(row["plain"]) <= 1
    known = [row for row in done if row["plain low"]]
    assert known
    for row in known:
        assert float(row["plain low"]) <= float(row["plain"]) <= float(row["plain high"])
    failed = [row for row in rows if "the loss is <not> finite" in row["state"]]
    assert [(row["method"], row["plain"]) for row in failed] == [("jsd", "")]


def test_external_rows_stand_apart_from_the_measured_ones(files):
    page, markdown = files["index.html"].decode(), files["headline.md"].decode()
    measured, apart = markdown.split("External: lm\\_eval")
    assert "stock" not in measured and "stock" in apart
    assert "50.0 [40.2, 59.8]" in apart and "org/other" in apart
    assert apart.index("prompt\\_level\\_strict") < apart.index("inst\\_level\\_strict")
    section = page.split('id="external"')[1].split("</section>")[0]
    assert "org/other" in section and page.count("org/other") == section.count("org/other")
    by_type = section.split(external.BY_INSTRUCTION)[-1]
    assert by_type.index("keywords:existence") < by_type.index("75.0")
    assert "Published by others" not in page + markdown


def test_published_rows_come_with_the_papers_task_and_model_and_with_no_other(tmp_path):
    suite = report_suite.describe(
        tmp_path / "paper", tasks=["dapo_math"], model="Qwen/Qwen3-8B", methods=["opcd"]
    )
    made = render(load(suite.path), command=COMMAND)
    apart = made["headline.md"].decode().split(published.TITLE)[1]
    assert "79.7 ± 0.5" in apart and "81.7 ± 0.4" in apart
    assert published.TITLE in made["index.html"].decode()
    assert b"80.9" in made["data/published.csv"]
    suite.merge({"model": "Qwen/Qwen3-1.7B"})
    again = render(load(suite.path), command=COMMAND)
    assert published.TITLE not in again["headline.md"].decode() + again["index.html"].decode()


def test_what_a_reply_or_a_reason_says_stays_text(files):
    for name, data in files.items():
        if name.endswith((".html", ".svg")):
            assert b"window.hacked" not in data and b"<not>" not in data, name
    assert b"&lt;not&gt;" in files["index.html"]
    stored = files["samples/toy-toy-0.js"].decode()
    shard = json.loads(stored[stored.index("(") + 1 : stored.rindex(")")])
    unpacked = gzip.decompress(base64.b64decode(shard["packed"]))
    assert report_suite.HOSTILE in json.loads(unpacked)["texts"]


def test_a_suite_without_a_run_renders_and_says_so(tmp_path):
    suite = report_suite.describe(tmp_path / "empty")
    made = render(load(suite.path), command=COMMAND)
    assert "No cell of this suite is done yet" in made["index.html"].decode()
    assert "not run" in made["headline.md"].decode()
    assert not [name for name in made if name.startswith("figures/")]


def test_whose_responses_collapsed_is_said_before_all_else(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "draw", lambda *of: [])
    suite = report_suite.describe(tmp_path / "fell", methods=["opcd", "forward_kl"],
                                  learning_rate=[1e-3], seeds=2)  # fmt: skip
    for seed, collapsed in ((0, 12), (1, None)):
        report_suite.finish(suite, "opcd", 1e-3, seed, collapsed=collapsed)
        report_suite.finish(suite, "forward_kl", 1e-3, seed)
    page = render(load(suite.path), command=COMMAND)["index.html"].decode()
    said = "Responses collapsed in training: OPCD in 1 of 2 runs (from step 12 on)."
    assert said in page and page.index(said) < page.index('id="verdict"')


def test_a_suite_that_is_half_done_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "draw", lambda *of: [])  # they take most of the time
    suite = report_suite.describe(tmp_path / "half")
    report_suite.finish(suite, "opcd", 1e-3, 0)
    with report_suite.begin(suite, report_suite.config("opcd", 1e-3, 1)) as run:
        report_suite.train(run, "reverse_kl_generalised", steps=4)
    page = render(load(suite.path), command=COMMAND)["index.html"].decode()
    assert "The suite is not complete: 1 cells are done" in page
    assert "not run" in page


def test_cells_that_cannot_be_compared_are_refused(tmp_path):
    suite = report_suite.describe(tmp_path / "mixed")
    report_suite.finish(suite, "opcd", 1e-3, 0)
    report_suite.finish(suite, "forward_kl", 1e-3, 0, protocol="another")
    with pytest.raises(StoreError, match="2 protocols"):
        render(load(suite.path), command=COMMAND)


def test_the_line_of_the_in_context_teacher_is_the_students_own():
    """Also where a method with another teacher comes first; none where there are several others."""

    def gaps(*told, **columns):
        flat = {"task": "toy", "seeds": 1, "base": interval(0.1), **columns}
        rows = [{**flat, "ceiling": interval(share), **one} for share, one in told]
        return _gaps(pd.DataFrame(rows))

    larger, own = (0.7, {"larger": True}), (0.5, {"larger": False})
    assert gaps(larger, own) == gaps(own, larger) == {"toy": pytest.approx(0.4)}
    assert gaps(larger, larger) == {"toy": pytest.approx(0.6)}
    assert gaps((0.5, {})) == {"toy": pytest.approx(0.4)}
    hint, answer = (
        (0.6, {"measured against": f"ceiling-{name}"}) for name in ("hint", "reference")
    )
    assert gaps(hint, answer) == {}
    assert gaps(hint, (0.5, {"measured against": "ceiling"})) == {"toy": pytest.approx(0.4)}
