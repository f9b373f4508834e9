"""What the documentation says can be typed, and every text keeps to its register."""

import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from opcd_bench.cli import main
from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import Episode, Task
from opcd_bench.runner import registry
from opcd_bench.runner.contracts import checks

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *(ROOT / name for name in ("CODE_OF_CONDUCT.md", ".github/pull_request_template.md")),
    *PAGES,
]
CONTRIBUTED = {"my_method", "my_task", "opcd_ema", "number_codes", "squared_log_ratio"}
"""Files that a reader writes."""


def named(path):
    return str(path.relative_to(ROOT))


def blocks(path, *languages):
    """The code blocks of a page in these languages ("": none is named), as texts."""
    found = re.findall(
        r"^```(\w*)\n(.*?)^```$",
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    return [block for language, block in found if language in languages]


def typed(path):
    """The command lines of `opcd-bench` in a page's blocks, as words without comments."""
    for block in blocks(path, "", "text", "shell"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("opcd-bench "):
                yield shlex.split(line, comments=True)[1:]


def command_of(words):
    """The typer command that words call, and the words after its name."""
    command = typer.main.get_command(main.app)
    while words and getattr(command, "commands", None):
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def plugins(value):
    """The names of `opcd,./mine.py,opcd[k=4,beta=0.5]`, without paths and parameters."""
    parts = re.sub(r"\[[^\]]*\]", "", value).split(",")
    return [part for part in parts if "/" not in part and not part.endswith(".py")]


COMMANDS = [(path, words) for path in TEXTS for words in typed(path)]


def test_the_pages_are_found_and_hold_commands():
    assert len(PAGES) > 15
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(
    ("path", "words"), COMMANDS, ids=[f"{named(p)}: {' '.join(w)[:60]}" for p, w in COMMANDS]
)
def test_every_command_line_has_options_settings_and_names_that_exist(path, words):
    if words[0].startswith("-"):
        return
    command, rest = command_of(words)
    known = {
        name: option for option in command.params for name in (*option.opts, *option.secondary_opts)
    }
    for at, word in enumerate(rest):
        if not word.startswith("--"):
            continue
        assert word in known, f"{word} is no option of {words[0]}"
        value = rest[at + 1] if not getattr(known[word], "is_flag", False) else ""
        if word == "--set":
            assert value.partition("=")[0].strip() in Suite.model_fields, value
        if word in ("--methods", "--method"):
            assert set(plugins(value)) <= {*registry.methods(), *CONTRIBUTED}, value
        if word in ("--tasks", "--task"):
            assert set(plugins(value)) <= {*registry.tasks(), *CONTRIBUTED}, value
        if word == "--suite" and words[0] in ("run", "estimate") and not value.endswith(".toml"):
            assert value in registry.suites(), value


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_every_make_target_and_subcommand_in_a_text_exists(path):
    text = path.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    commands = {command.name for command in main.app.registered_commands}
    commands |= {group.name for group in main.app.registered_groups}
    for name in set(re.findall(r"(?:^|[`/])opcd-bench ([a-z-]+)", text, flags=re.MULTILINE)):
        assert name in commands, name


def test_suites_in_the_pages_can_be_used_in_all_their_sizes(tmp_path):
    shown = 0
    for path in TEXTS:
        for number, block in enumerate(blocks(path, "toml")):
            if "methods = " not in block:
                continue
            file = tmp_path / f"{path.stem}_{number}.toml"
            file.write_text(block)
            for size in (None, *tomllib.loads(block).get("sizes", {})):
                assert registry.suite(file, size=size).methods
            shown += 1
    assert shown == 2


def test_every_method_and_task_file_in_a_page_keeps_its_contract(tmp_path):
    shown = []
    for at, split in enumerate(("train", "dev", "test")):
        file = tmp_path / "word_problems" / f"{split}.jsonl"
        file.parent.mkdir(exist_ok=True)
        rows = [{"question": f"{n} and {at}?", "answer": f"{n + at}"} for n in range(4)]
        file.write_text("\n".join(map(json.dumps, rows)))
    for path in PAGES:
        for block in blocks(path, "python"):
            found = re.search(r'^ +name(?:=|, version, summary = )"(\w+)"', block, re.MULTILINE)
            if re.search(r"^(METHOD|TASK) = ", block, re.MULTILINE) and found:
                file = tmp_path / f"{found[1]}.py"
                file.write_text(block)
                shown.append(file.stem)
                broken = [
                    result for result in checks.check_file(file, str(tmp_path)) if not result.passed
                ]
                assert broken == [], named(path)
    assert set(shown) == {
        "opcd_ema",
        "jsd_ramp",
        "squared_log_ratio",
        "number_codes",
        "word_problems",
    }


def prose(path):
    """A text without its code, its links' targets, and the glossary, which maps the registers."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\[start:glossary\].*?\[end:glossary\]", "", text, flags=re.DOTALL)
    text = re.sub(r"``.+?``|`[^`]*`|^::: .*", "", text, flags=re.MULTILINE)
    return re.sub(r"\]\([^)]*\)", "]", text)


FOR_USERS = [path for path in TEXTS if path.name != "architecture.md"]
"""The architecture quotes the code's own first sentences, in the code's words."""


def test_the_parts_of_a_task_are_those_of_its_class_with_all_that_have_to_be_written():
    page = (ROOT / "docs/guides/tasks.md").read_text(encoding="utf-8")
    for kind, heading in ((Task, "| part |"), (Episode, "| part of an episode |")):
        table = page.partition(heading)[2].partition("\n\n")[0]
        parts = {
            part
            for row in table.splitlines()[2:]
            for part in re.findall(r"`([^`]+)`", row.split("|")[1])
        }
        methods = {part.partition("(")[0]: part for part in parts if "(" in part}
        assert kind.__abstractmethods__ <= set(methods)
        for name, part in methods.items():
            taken = list(inspect.signature(getattr(kind, name)).parameters)[1:]
            assert part == f"{name}({', '.join(taken)})"
        assert parts - set(methods.values()) <= set(kind.__annotations__)


@pytest.mark.parametrize("path", FOR_USERS, ids=named)
@pytest.mark.parametrize(
    ("word", "instead"),
    [
        (r"told|tells? (?:the )?teachers?", "with context, in-context"),
        (r"plain(?:ly)?", "without context"),
        (r"repl(?:y|ies|ied)", "response"),
        (r"writers?", "rollout policy"),
        (r"(?<!learning )(?<!learning\n)(?<!parse )rates?", "learning rate"),
    ],
    ids=["told", "plain", "reply", "writer", "rate"],
)
def test_a_text_uses_the_words_of_its_readers(path, word, instead):
    found = re.findall(rf".*\b(?:{word})\b.*", prose(path), flags=re.IGNORECASE)
    assert found == [], f"write: {instead}"


def test_runs_are_promised_to_the_byte_on_cpus_alone():
    """On GPUs and in vLLM sums have no fixed order."""
    promises = [
        (named(path), " ".join(block.split()))
        for path in (ROOT / "docs" / "guides").glob("*.md")
        for block in re.split(r"\n(?:\n|- )", path.read_text(encoding="utf-8"))
        if "byte-identical" in block
    ]
    assert len(promises) >= 4
    assert not [promise for promise in promises if "CPU" not in promise[1]]


def test_the_glossary_maps_both_registers():
    glossary = (ROOT / "README.md").read_text(encoding="utf-8").split("[start:glossary]")[1]
    glossary = glossary.split("[end:glossary]")[0]
    for code in ("`reply`", "`writer`", "`told`", "`plain`", "`learning_rate`"):
        assert code in glossary, code
    for term in ("student", "teacher", "base", "floor", "ceiling", "best possible", "hypervolume"):
        assert re.search(rf"^\| {term} \|", glossary, re.MULTILINE), term


def test_the_floor_is_one_thing_wherever_it_is_explained():
    said = "policies that do not use the context"
    for path in ("README.md", "CONTRIBUTING.md", "opcd_bench/report/tables/layout.py"):
        assert said in (ROOT / path).read_text(encoding="utf-8"), path
    for module in ("api.py", "report", "envs/task.py"):
        place = ROOT / "opcd_bench" / module
        for path in place.rglob("*.py") if place.is_dir() else [place]:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"polic(?:y|ies) that (?:reads? nothing|does not read)", text), (
                path
            )


def test_no_text_cites_a_document_that_is_not_there():
    there = {path.name for path in (*ROOT.glob("*.md"), *(ROOT / "opcd_bench").rglob("*.md"))}
    for folder in ("opcd_bench", "baselines", "tasks", "docs", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".toml"):
                cited = re.findall(r"\b[A-Z]{4,}\.md\b", path.read_text(encoding="utf-8"))
                assert set(cited) <= there, path


def test_every_workload_below_its_target_is_said_not_to_be_reached():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| [\d.]+ \(.*?\) \| [\d.]+ \(.*?\) \| ([\d.]+) \| [^|]+ \| ([\d.]+) \|",
        text,
        re.MULTILINE,
    )
    assert len(rows) >= 9
    unreached = text.split("## What is not reached")[1].split("\n## ")[0]
    for workload, ratio, target in rows:
        if float(ratio) < float(target):
            assert f"`{workload}`" in unreached and ratio in unreached, workload


def commands():
    """Every command of the README's table, a word list each."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Commands\n")[1]
    for row in table.split("\n## ")[0].splitlines():
        if row.startswith("| `"):
            for words in re.findall(r"`([^`]+)`", row.split(" | ")[0]):
                yield words.removeprefix("opcd-bench ").split()


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_of_the_readme_has_all_that_it_needs(words):
    command, rest = typer.main.get_command(main.app), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    assert not hasattr(command, "commands"), f"{words}: a command of this group is missing"
    required = [one for one in command.params if one.required]
    values = [word for word in rest if not word.startswith("-")]
    options = [one for one in required if one.param_type_name == "option"]
    for one in options:
        assert set(one.opts) & set(rest), f"{words}: {one.opts[0]} is missing"
    assert len(values) >= len(required), words
    known = {name for one in command.params for name in one.opts}
    assert {word for word in rest if word.startswith("-")} <= known, words


def test_every_page_has_its_place_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(config)["nav"]
    listed = [page for section in nav for pages in section.values() for page in pages]
    others = {"reference/settings.md", "reference/commands.md", "notebook.ipynb"}
    assert {named(path).removeprefix("docs/") for path in PAGES} | others == set(listed)


def test_the_citation_names_this_version_and_both_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]
    assert [author["name"] for author in cited["authors"]] == ["The opcd-bench authors"]
    numbers = [paper["identifiers"][0]["value"] for paper in cited["references"]]
    assert numbers == ["arXiv:2602.12275", "arXiv:2605.11182"]


def test_github_s_forms_and_workflow_can_be_read():
    folder = ROOT / ".github"
    for form in ("bug.yml", "method_or_task.yml"):
        read = yaml.safe_load((folder / "ISSUE_TEMPLATE" / form).read_text(encoding="utf-8"))
        assert read["name"] and read["description"]
        assert len({field["id"] for field in read["body"]}) == len(read["body"])
    jobs = yaml.safe_load((folder / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    steps = [step.get("run") for job in jobs.values() for step in job["steps"]]
    assert ".ci/run" in steps
