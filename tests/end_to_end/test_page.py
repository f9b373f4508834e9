"""The report's page in a real browser: Debian's Chromium, driven by Playwright, from a file."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from opcd_bench.report.analysis.load import load
from opcd_bench.report.page.browser import packed
from opcd_bench.report.page.render import render
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SuiteDir

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the PyPI package playwright")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs the PyPI package axe-playwright-python"
)

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
if not CHROMIUM.exists():
    pytest.skip(f"needs Debian's chromium at {CHROMIUM}", allow_module_level=True)

EVIL = "</script><script>document.title = 'taken'</script>\n# **bold** <b>x</b> [y](javascript:z)"
METHODS = ("opcd", "sft_context")
RATES = (1e-3, 3e-3)
ITEMS = 30
WIDTHS = (400, 1600)
SCHEMES = ("light", "dark")


# --- a suite with games and instructions, one reply of which would like to be markup -------------


CONTEXT = "You play on ice.\nP is you, G is the goal."


def game(item: int, score: float, reply: str, *, reading: str = "plain") -> dict:
    turns = [
        {"messages": [{"role": "user", "content": f"board {item}.{turn}\n P _\n _ G"}],
         "reply": f"{reply} at turn {turn}", "finish": "stop"}
        for turn in (1, 2)
    ]  # fmt: skip
    return {"task": "lake", "split": "test", "example_id": f"m{item:02d}", "sample": 0,
            "score": score, "outcome": "correct" if score else "wrong", "answer": "[r] [d]",
            "why": "won" if score else "fell into a hole", "turns": turns, "tokens": 9,
            "reading": reading}  # fmt: skip


def text(item: int, followed: list[bool]) -> dict:
    good = all(followed)
    return {"task": "keep", "split": "retention", "example_id": f"k{item:02d}", "sample": 0,
            "score": float(good), "outcome": "correct" if good else "wrong", "prompt": "Write.",
            "reply": EVIL if item == 0 else "words", "finish": "stop",
            "instruction_ids": ["keywords:existence", "punctuation:no_comma"],
            "values": {"inst_level_strict_acc": followed}}  # fmt: skip


def build(root: Path) -> None:
    """Two methods, two rates, two seeds at the first; opcd solves what the base does not."""
    suite = SuiteDir(root)
    suite.merge(
        {"name": "lakes", "tasks": ["lake"], "methods": list(METHODS), "model": "micro-small",
         "learning_rate": list(RATES), "seeds": 1, "summary": "Two methods on a lake.",
         "contexts": {"lake": {"h": {"pool": [{"placement": "user", "text": CONTEXT}],
                                     "prompt_tokens": 20.0, "context_tokens": 12.0}}},
         "model_shapes": {
             "student": {"parameters": 1000, "layers": 2, "attention_width": 8}}}
    )  # fmt: skip
    base = [game(i, float(i % 10 == 0), "hm") for i in range(ITEMS)]
    told = [game(i, 1.0, "told", reading="told") for i in range(ITEMS)]
    plain = [text(i, [i % 5 > 0, True]) for i in range(ITEMS)]
    anchors = []
    for reading, folder, name, rows in (
        ("base", "lake", "base-test-s0", base), ("ceiling", "lake", "ceiling-test-s0", told),
        ("base", "retention-keep", "base", plain),
    ):  # fmt: skip
        shared = suite.shared(folder, "k")
        shared.put(name, [{"measured": {}}, *rows])
        anchors.append({"reading": reading, "shared": shared.path.name, "name": name})
    for number, method in enumerate(METHODS):
        for rate, seed in ((RATES[0], 0), (RATES[0], 1), (RATES[1], 0)):
            one_run(suite, method, rate, seed, number, anchors)


def one_run(
    suite: SuiteDir, method: str, rate: float, seed: int, number: int, anchors: list[dict]
) -> None:
    direction = "reverse_kl" if number == 0 else "forward_kl"
    loss = {"id": "x", "direction": direction, "support": "full", "k": None, "outside": "none",
            "gradient": "through", "estimator": "exact", "alpha": None, "beta": None, "clip": None,
            "baseline": 0.0, "importance_weight": False, "missing_ids": "refuse"}  # fmt: skip
    config = {
        "suite": {"max_steps": 20},
        "task": {"name": "lake", "version": 1, "context_hash": "h"},
        "method": {
            "name": method,
            "loss": loss,
            "writer": {"kind": "student", "path": None, "teacher_share": 0.0},
            "teacher": {"weights": "initial", "reads": "context", "rate": None, "rows": "aligned"},
        },
        "learning_rate": rate,
        "seed": seed,
    }
    good = [float(i % (2 + number + seed) == 0) for i in range(ITEMS)]
    with RunDir.open(suite.run(f"lake--{method}--{rate:g}--s{seed}"), config, {}) as run:
        for step in (0, 10, 20):
            dev = [float(i < 8 * step / 10) for i in range(20)]
            run.samples(
                f"scores-lake-step_{step:06d}", [{"task": "lake", "split": "dev", "scores": dev}]
            )
            after = [float(i % 5 > 0 and i < ITEMS - step / 5) for i in range(ITEMS)]
            run.samples(
                f"scores-keep-step_{step:06d}",
                [{"task": "keep", "split": "retention", "scores": after}],
            )
            for measured, split, scores in (("lake", "dev", dev), ("keep", "retention", after)):
                run.eval({"step": step, "task": measured, "split": split, "metric": "accuracy",
                          "value": sum(scores) / len(scores), "primary": True, "n": len(scores),
                          "n_unscored": 0, "final": False, "protocol_hash": split})  # fmt: skip
        for step in range(1, 21):
            run.train({"step": step, "divergence": 1 / step, "divergence_kind": direction,
                       "eos_rate": 1.0, "student_tokens_trained": 100 * step, "grad_norm": 0.1,
                       "tokens": 100, "replies": 8})  # fmt: skip
        run.samples("test", [game(i, score, method) for i, score in enumerate(good)])
        run.samples("retention-keep", [text(i, [i % 5 > 0, i % 7 > 0]) for i in range(ITEMS)])
        run.seal(
            {"chosen_step": 20, "anchors": anchors, "tokens_written": 2000,
             "teacher_tokens_scored": 2000, "student_tokens_trained": 2000}
        )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The rendered report's folder."""
    root = tmp_path_factory.mktemp("results") / "lakes"
    build(root)
    out = tmp_path_factory.mktemp("reports")
    for name, data in render(load(root), command="opcd-bench report results/lakes").items():
        file = out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return out


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


class Opened:
    """A page with all that it complained about and asked for."""

    def __init__(self, chromium, width=1600, scheme="light"):
        size = {"width": width, "height": 900}
        self.page = chromium.new_page(viewport=size, color_scheme=scheme)
        self.complaints, self.asked = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append("a dialog opened"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))


@pytest.fixture
def at(site, chromium):
    """Open the page from its file, at a width, in a colour scheme, at a fragment."""
    opened = []

    def open_(width=1600, scheme="light", fragment="#samples", folder=site):
        one = Opened(chromium, width, scheme)
        opened.append(one.page)
        one.page.goto(f"{(folder / 'index.html').as_uri()}{fragment}")
        one.page.wait_for_selector("#browser:not([hidden]) .card", timeout=10_000)
        return one

    yield open_
    for page in opened:
        page.close()


def found(page) -> str:
    return page.locator("#found").inner_text()


def titles(page) -> list[str]:
    return page.locator(".card h4").all_inner_texts()


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_from_a_file_without_a_complaint_and_without_the_network(at, site, width, scheme):
    one = at(width, scheme)
    one.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    one.page.wait_for_timeout(200)
    assert one.complaints == []
    outside = [url for url in one.asked if not url.startswith((site.as_uri(), "data:"))]
    assert outside == []
    broken = "[...document.images].filter((image) => !image.naturalWidth).map((i) => i.src)"
    assert one.page.evaluate(broken) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_serious_fault(at, width, scheme):
    page = at(width, scheme).page
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    faults = axe.Axe().run(page).response["violations"]
    told = [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in faults]
    assert [one for one in told if one[1] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window_but_what_scrolls_in_a_box(at, width):
    page = at(width).page
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    out = page.evaluate(
        """[...document.querySelectorAll("main *")].filter((node) => {
             const right = node.getBoundingClientRect().right;
             return right > window.innerWidth + 1 && !node.closest(".scroll, pre");
           }).map((node) => node.outerHTML.slice(0, 90))"""
    )
    assert out == []
    if width == 400:
        boxes = page.locator("#headline details .scroll")
        assert boxes.first.evaluate("(box) => box.scrollWidth > box.clientWidth")


def test_figures_follow_the_width_and_the_colours_of_the_page(at):
    source = "document.querySelector('figure img').currentSrc.split('/').pop()"
    grounds = []
    for width, scheme, suffix in (
        (1600, "light", ".svg"), (1600, "dark", ".svg"), (400, "light", "-narrow.svg"),
        (400, "dark", "-narrow.svg"),
    ):  # fmt: skip
        page = at(width, scheme).page
        assert page.evaluate(source) == f"summary{suffix}"
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        shot = page.locator("figure img").first.screenshot()
        darkest, brightest = Image.open(io.BytesIO(shot)).convert("L").getextrema()
        # Ink on white, or its light twin on black: the drawing is in the page's own colours.
        assert darkest < 60 if scheme == "light" else brightest > 200
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"] * 2


FOLDED = {"samples", "forgetting", "curves", "factorial", "pairwise", "instructions", "provenance"}


@pytest.mark.parametrize("width", [400, 1280])
def test_the_answer_stands_on_the_first_screen_and_details_are_folded(site, chromium, width):
    page = Opened(chromium, width).page
    page.goto((site / "index.html").as_uri())
    verdict = page.locator(".verdict").first.bounding_box()
    assert verdict["y"] + verdict["height"] < 900
    closed = page.locator("details.part:not([open])")
    folded = set(closed.evaluate_all("(parts) => parts.map((part) => part.parentElement.id)"))
    assert {"samples", "curves", "provenance"} <= folded <= FOLDED
    words = page.evaluate("document.body.innerText.split(/\\s+/).length")
    height = page.evaluate("document.documentElement.scrollHeight")
    assert words < 8_400 / 3 and height < 20_000 / 3
    page.close()


def test_on_a_phone_the_tables_fit_without_scrolling(site, chromium):
    page = Opened(chromium, 400).page
    page.goto((site / "index.html").as_uri())
    boxes = page.locator("#headline > .scroll")
    assert boxes.count() > 0
    for box in boxes.all():
        assert box.evaluate("(box) => box.scrollWidth <= box.clientWidth")
    heads = boxes.first.locator("thead th:visible").all_inner_texts()
    assert heads == ["method", "accuracy", "gap closed"]
    page.close()


def test_a_link_opens_what_is_folded(at):
    page = at().page
    assert page.locator("#samples details.part").get_attribute("open") is not None
    part = page.locator("#curves details.part")
    assert part.get_attribute("open") is None
    page.locator("nav a[href='#curves']").click()
    sync_api.expect(page.locator("#curves figure")).to_be_visible()


def test_seeds_link_to_their_runs_and_runs_to_their_settings(at):
    page = at().page
    page.locator("#headline a[href^='#run-']").first.click()
    row = page.locator("tr:target")
    assert row.locator("th").inner_text().startswith("lake--")
    sync_api.expect(row).to_be_visible()
    row.locator("a[href^='#settings-']").click()
    settings = page.locator("details:target pre")
    sync_api.expect(settings).to_be_visible()
    sync_api.expect(settings).to_contain_text("max_steps")


def test_on_paper_every_figure_stands_and_the_browser_is_left_out(at):
    page = at().page
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#curves figure").is_visible()
    assert not page.locator("#provenance pre").first.is_visible()
    assert not page.locator("#samples").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator("#headline table").first.is_visible()


# --- the sample browser --------------------------------------------------------------------------


def test_the_same_example_stands_side_by_side(at):
    page = at().page
    assert titles(page) == ["base", "in-context teacher", "OPCD · 0.001 · seed 0",
                            "SFT · 0.001 · seed 0"]  # fmt: skip
    assert found(page) == "30 of 30 examples, 4 columns"
    tops = {round(box["y"]) for box in (c.bounding_box() for c in page.locator(".card").all()[:2])}
    assert len(tops) == 1


def test_what_the_teacher_read_is_shown_with_the_context_in_it(at):
    page = at().page
    told, student = page.locator(".card").nth(1), page.locator(".card").nth(2)
    assert told.locator("mark").first.inner_text() == CONTEXT
    assert told.locator("pre").first.evaluate("(node) => node.textContent") == (
        f"{CONTEXT}\n\nboard 0.1\n P _\n _ G"
    )
    assert "user, with context" in told.inner_text()
    assert student.locator("mark").count() == 0
    assert page.locator(".read h4").inner_text() == "What all without context read first"
    page.locator("#context summary").click()
    sync_api.expect(page.locator("#context pre")).to_be_visible()
    assert page.locator("#context pre").inner_text() == CONTEXT


def test_break_even_is_on_the_page(at):
    table = at().page.locator("#break-even table")
    assert "with a prefix cache" in table.inner_text() and "OPCD" in table.inner_text()


def test_a_game_is_shown_board_by_board(at):
    page = at().page
    assert "board 0.1\n P _\n _ G" in page.locator(".read pre").inner_text()
    card = page.locator(".card").nth(2)
    assert card.locator(".said").all_inner_texts() == [
        "Turn 1", "response", "Turn 2", "user", "response",
    ]  # fmt: skip
    assert card.locator("pre").all_inner_texts() == [
        "opcd at turn 1", "board 0.2\n P _\n _ G", "opcd at turn 2",
    ]  # fmt: skip
    assert "answer: [r] [d]" in card.inner_text() and "won" in card.inner_text()


@pytest.mark.parametrize(
    ("choice", "value", "count"),
    [
        ("change", "methods", 20),  # i % 2 against i % 3
        ("change", "base", 17),  # the base solves every tenth
        ("change", "gained", 17),
        ("change", "lost", 2),  # 10 and 20 are not multiples of 3
        ("outcome", "w", 27),
        ("outcome", "t", 0),
    ],
)
def test_filters_leave_the_examples_that_they_say(at, choice, value, count):
    page = at().page
    page.locator(f"#choice-{choice}").select_option(value)
    base = [i % 10 == 0 for i in range(ITEMS)]
    methods = [(i % 2 == 0, i % 3 == 0) for i in range(ITEMS)]
    wanted = {
        "methods": sum(a != b for a, b in methods),
        "base": sum(a != c or b != c for (a, b), c in zip(methods, base, strict=True)),
        "gained": sum((a or b) and not c for (a, b), c in zip(methods, base, strict=True)),
        "lost": sum(not (a and b) and c for (a, b), c in zip(methods, base, strict=True)),
        "w": sum(not (a and b and c) for (a, b), c in zip(methods, base, strict=True)),
        "t": 0,
    }
    words = f"{wanted[value]} of 30 examples, 4 columns"
    page.wait_for_selector(f"#found:has-text('{words}')")
    assert found(page) == words
    if not wanted[value]:
        assert "No example is left" in page.locator("#example-title").inner_text()


def test_columns_rates_and_seeds_can_be_chosen(at):
    page = at().page
    page.get_by_label("OPCD", exact=True).uncheck()
    page.locator("#choice-seed").select_option("all")
    assert titles(page) == ["base", "in-context teacher", "SFT · 0.001 · seed 0",
                            "SFT · 0.001 · seed 1"]  # fmt: skip
    page.locator("#choice-rate").select_option("0.003")
    assert titles(page)[2:] == ["SFT · 0.003 · seed 0"]
    page.locator("#choice-rate").select_option("all")
    assert len(titles(page)) == 5


def test_equal_replies_are_shown_once_when_asked(at):
    page = at().page
    page.locator("#choice-set").select_option("1")
    page.wait_for_selector(".card:has-text('keywords:existence')")
    assert len(titles(page)) == 3
    page.get_by_label("show equal responses once").check()
    cards = page.locator(".card")
    assert cards.count() == 2
    assert cards.nth(1).locator("h4").count() == 2


def test_a_reply_with_markup_stays_text(at):
    one = at()
    page = one.page
    page.locator("#choice-set").select_option("1")
    page.wait_for_selector(".card:has-text('keywords:existence')")
    assert page.locator(".card pre.reply").first.evaluate("(node) => node.textContent") == EVIL
    assert page.locator("#example b b, #example script, #example a, #example h1").count() == 0
    assert page.title() == "lakes: comparison by opcd-bench"
    assert one.complaints == []


def test_the_browser_can_be_used_with_the_keyboard_alone(at):
    page = at().page
    page.locator("#choice-merge").focus()
    for _ in range(4):  # the box that scrolls, then three rows
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#example-title").inner_text() == "Example m02, 3 of 30"
    page.keyboard.press("j")
    assert page.locator("#example-title").inner_text() == "Example m03, 4 of 30"
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert page.locator("#example-title").inner_text() == "Example m01, 2 of 30"


def test_a_button_keeps_the_focus_when_the_table_is_drawn_anew(at):
    page = at().page
    page.locator("#outcomes button").nth(4).focus()
    page.keyboard.press("Enter")
    focused = page.evaluate("document.activeElement.textContent")
    assert focused == "m04"


def test_later_examples_come_from_the_next_file(at):
    one = at()
    page = one.page
    page.get_by_role("button", name="later examples").click()
    page.wait_for_selector(".read:has-text('board 25.1')")
    assert page.locator("#outcomes tbody tr").count() == 5
    assert one.asked[-1].endswith("samples/lake-lake-1.js")
    assert page.get_by_role("button", name="later examples").is_disabled()


def test_an_example_can_be_linked_to(at):
    page = at(fragment="#example/lake-keep/7").page
    page.wait_for_selector("#example-title:has-text('k07')")
    assert page.locator("#choice-set").input_value() == "1"


def test_a_file_that_is_missing_is_named(at, site, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "samples").mkdir()
    for name in ("index.html", "samples/index.js", "samples/lake-lake-0.js"):
        (copy / name).write_bytes((site / name).read_bytes())
    page = at(folder=copy).page
    page.get_by_role("button", name="later examples").click()
    page.wait_for_selector("#found:has-text('samples/lake-lake-1.js is not there')")


def test_a_file_that_is_damaged_is_named(at, site, tmp_path):
    copy = tmp_path / "damaged"
    (copy / "samples").mkdir(parents=True)
    for name in ("index.html", "samples/index.js", "samples/lake-lake-0.js"):
        (copy / name).write_bytes((site / name).read_bytes())
    shard = json.dumps({"name": "lake-lake-1", "packed": "AAAA"})
    (copy / "samples" / "lake-lake-1.js").write_text(f"opcdSamples.shard({shard});\n")
    page = at(folder=copy).page
    page.get_by_role("button", name="later examples").click()
    page.wait_for_selector("#found:has-text('samples/lake-lake-1.js cannot be unpacked here')")


def test_a_thousand_examples_of_sixty_columns_are_filtered_at_once(at, site, tmp_path):
    copy = tmp_path / "large"
    (copy / "samples").mkdir(parents=True)
    (copy / "index.html").write_bytes((site / "index.html").read_bytes())
    columns = [{"reading": "base", "method": "", "rate": 0.0, "seed": 0, "run": ""}]
    columns += [
        {"reading": "method", "method": f"m{i // 6}", "rate": 1e-3, "seed": i % 6, "run": "r"}
        for i in range(59)
    ]
    letters = {"c": "correct", "w": "wrong", "-": "not stored"}
    one = {
        "task": "lake", "measured": "lake", "split": "test", "stem": "lake-lake",
        "items": [[f"e{i}", 0] for i in range(1000)], "columns": columns,
        "outcomes": ["".join("cw"[(i * j) % 7 == 0] for i in range(1000)) for j in range(60)],
    }  # fmt: skip
    index = {"shard": 25, "letters": letters, "readings": {"base": "base"}, "sets": [one]}
    (copy / "samples" / "index.js").write_text(f"opcdSamples.index({json.dumps(index)});\n")
    reply = {"messages": [["user", 0]], "reply": 1, "finish": "stop"}
    shard = {
        "texts": ["a question " * 40, "a reply " * 80],
        "records": [{"answer": -1, "why": -1, "turns": [reply]}], "items": [[0] * 60] * 25,
    }  # fmt: skip
    shard = {"name": "lake-lake-0", "packed": packed(shard)}
    (copy / "samples" / "lake-lake-0.js").write_text(f"opcdSamples.shard({json.dumps(shard)});\n")
    page = at(folder=copy).page
    page.locator("#choice-seed").select_option("all")
    assert found(page) == "1000 of 1000 examples, 60 columns"
    took = page.evaluate(
        """() => { const select = document.querySelector("#choice-change");
             const from = performance.now();
             select.value = "methods"; select.dispatchEvent(new Event("change"));
             document.body.getBoundingClientRect(); return performance.now() - from; }"""
    )
    assert re.fullmatch(r"\d+ of 1000 examples, 60 columns", found(page))
    assert took < 1500, f"{took:.0f} ms"
