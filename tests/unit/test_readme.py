"""What the README promises is there."""

import re
from pathlib import Path

import pytest
from test_architecture import LAYERS

from opcd_bench.runner import registry
from opcd_bench.runner.contracts import checks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LAYOUT = README.split("## Layout")[1].split("```")[1]
OURS = re.compile(
    r"https://(?:github\.com/opcd-bench/opcd-bench/(?:blob|tree)/main"
    r"|raw\.githubusercontent\.com/opcd-bench/opcd-bench/main)/([^#?]+)"
)
LINKS = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)", README)


def test_the_layout_names_every_folder_of_the_harness_from_the_top_down():
    named = re.findall(r"^  (\w+)/ ", LAYOUT, flags=re.MULTILINE)
    assert named == [folder for folder in LAYERS if "." not in folder]
    assert set(named) == {file.parent.name for file in (ROOT / "opcd_bench").glob("*/__init__.py")}


def test_every_folder_that_the_layout_names_at_the_top_is_there():
    named = re.findall(r"^([\w./]+/) ", LAYOUT, flags=re.MULTILINE)
    assert {"opcd_bench/", "baselines/", "tasks/", "tests/", "docs/"} <= set(named)
    for name in named:
        assert (ROOT / name).is_dir(), name


def test_every_folder_is_said_in_a_few_words():
    for line in LAYOUT.splitlines():
        said = re.match(r"\s*[\w./]+\s{2,}(.+)", line)
        if said:
            assert 2 <= len(said.group(1).split()) <= 7, line


def test_images_and_links_survive_on_a_page_without_the_repository():
    assert len(LINKS) > 10
    for link in LINKS:
        assert link.startswith("https://"), f"{link}: PyPI has no files beside the README"
        own = OURS.match(link)
        if own:
            assert (ROOT / own[1]).exists(), link
        elif "opcd-bench/opcd-bench" in link:
            raise AssertionError(f"{link}: is this file on the main branch?")


def test_every_image_is_the_raw_file_of_a_picture():
    images = re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", README)
    assert len(images) == 2
    for image in images:
        assert image.startswith("https://raw.githubusercontent.com/"), image
        assert image.endswith(".png"), image


def test_the_method_that_it_shows_is_short_and_keeps_its_contract(tmp_path):
    text = README.split("```python\n")[1].split("```")[0]
    assert len(text.splitlines()) <= 20
    file = tmp_path / "opcd_ema.py"
    file.write_text(text)
    broken = [result for result in checks.check_file(file) if not result.passed]
    assert broken == []


@pytest.mark.parametrize("name", re.findall(r"--suite (\w+)`", README))
def test_every_suite_that_it_names_ships(name):
    assert name in registry.suites()
