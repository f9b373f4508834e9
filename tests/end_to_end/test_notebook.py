"""docs/notebook.ipynb runs as it stands, and what it shows is committed with it.

To run it again and store what it shows: ``python tests/end_to_end/test_notebook.py`` (a minute).
"""

import json
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
MOST_BYTES = 300_000


def executed(folder):
    """The notebook, run in a folder that stands for ``docs/`` beside the reference results."""
    (folder / "docs").mkdir()
    (folder / "results").mkdir()
    (folder / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(folder / "docs")}}
    NotebookClient(notebook, timeout=1200, record_timing=False, resources=where).execute()
    return notebook


def shown(notebook):
    """Of each code cell that shows something, in which forms."""
    return [
        sorted(form for output in cell.outputs for form in output.get("data", {}))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_notebook_runs_and_shows_what_is_committed(tmp_path):
    notebook = executed(tmp_path)
    assert shown(notebook) == shown(nbformat.read(NOTEBOOK, as_version=4))
    forms = [form for cell in shown(notebook) for form in cell]
    assert forms.count("image/png") == 3 and forms.count("text/html") == 4
    assert (tmp_path / "results" / "notebook" / "suite.json").is_file()


def test_the_committed_notebook_is_small_and_clean():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data"}
    assert str(ROOT) not in text and "/tmp/" not in text and "/home/" not in text


def store():
    """Run the notebook, and write it with what it shows: no warnings, no paths of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream"]
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    store()
