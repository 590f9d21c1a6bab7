"""The report's page in a real browser: Chromium of the PATH, or the one that SAMPLECNN_CHROMIUM names.

With SAMPLECNN_SCREENSHOTS=DIR, pictures of the page are left there.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from analysis.made_report import Made, make
from analysis.made_runs import make_run

CHROMIUM = os.environ.get("SAMPLECNN_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WIDTHS = (1280, 390)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium in PATH or SAMPLECNN_CHROMIUM"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Three blocks with three seeds, a search, and names as long as they come."""
    folder = tmp_path_factory.mktemp("page")
    runs = folder / "runs"
    for block, separation in {"basic": 1.7, "se": 1.9, "rese2": 2.1}.items():
        for multi in ("true", "false"):
            for seed in (0, 1, 2):
                name = f"{block}-{multi}-{seed}-in-a-folder-with-a-name-that-has-no-end"
                overrides = (f"block={block}", f"multi={multi}")
                better = separation + 0.05 * (multi == "true")
                make_run(runs / name, *overrides, seed=seed, separation=better, noise=seed + 7)
    for alpha in (1, 64):
        make_run(runs / f"alpha-{alpha}", f"block.alpha={alpha}", separation=1.8)
    return make(runs, folder / "out")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, made: Made) -> Iterator[Page]:
    """The page as a file, on which no script may fail, and which may ask for nothing else."""
    opened = browser.new_page(viewport={"width": WIDTHS[0], "height": 900})
    wrong: list[str] = []
    address = f"file://{made.out}/index.html"
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text))
    opened.on("request", lambda asked: wrong.append(asked.url) if asked.url != address else None)
    opened.goto(address)
    yield opened
    opened.close()
    assert not wrong


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("SAMPLECNN_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def table(page: Page, title: str) -> Locator:
    return page.get_by_role("table", name=title, exact=True)


def column(of: Locator, index: int) -> list[str]:
    """Return what is shown in a column, without marks."""
    texts = of.locator(f"tbody tr > :nth-child({index})").all_inner_texts()
    return [text.removeprefix("\N{BLACK STAR}").strip() for text in texts]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_and_scheme(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for details in page.locator("summary").all():
        details.click()
    picture(page, f"report-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    rgb = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", rgb))) < 200) == (scheme == "dark")
    # No number leaves its chart's place on the page, and each chart is as wide as that.
    places = page.evaluate(
        """() => [...document.querySelectorAll('.chart')].map(chart => {
            const place = chart.parentElement.getBoundingClientRect();
            const boxes = [...chart.querySelectorAll('text, line, .mark')]
                .map(node => node.getBoundingClientRect());
            return [chart.ariaLabel, Math.min(...boxes.map(box => box.left)) - place.left,
                    place.right - Math.max(...boxes.map(box => box.right)), place.width];
        })"""
    )
    assert places
    for name, left, right, whole in places:
        assert -1 < left < 0.1 * whole + 40, name
        assert -1 < right < 20, name
    frame = page.locator("main").bounding_box()
    assert frame
    wide = page.get_by_role("img", name="Macro ROC-AUC of 6 architectures").bounding_box()
    assert wide
    assert wide["width"] > frame["width"] - 210
    # Letters have one size, whatever the width.
    sizes = page.evaluate(
        "[...document.querySelectorAll('.chart .label')].map(n => n.getBoundingClientRect().height)"
    )
    assert max(sizes) < 20
    # Where there is room nothing of a table is hidden; elsewhere its own frame scrolls.
    cut = page.evaluate(
        """() => [...document.querySelectorAll('.scroll')]
        .filter(node => node.scrollWidth > node.clientWidth).map(node => node.ariaLabel)"""
    )
    if width == WIDTHS[0]:
        assert cut == []
    else:
        assert "Scores on the test split" in cut


def test_a_table_is_sorted_by_its_heads(page: Page) -> None:
    scores = table(page, "Scores on the test split")
    before = column(scores, 1)
    head = scores.get_by_role("columnheader", name="ROC-AUC", exact=True)
    button = head.get_by_role("button")
    button.click()
    expect(head).to_have_attribute("aria-sort", "descending")
    values = [float(value) for value in column(scores, 2)]
    assert values == sorted(values, reverse=True)
    assert scores.get_by_role("img", name="highest").count() == 2
    button.press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    values = [float(value) for value in column(scores, 2)]
    assert values == sorted(values)
    button.press(" ")
    assert head.get_attribute("aria-sort") is None
    assert column(scores, 1) == before
    scores.get_by_role("button", name="architecture").click()
    assert column(scores, 1) == sorted(before, key=str.casefold)
    expect(scores.locator("[aria-sort]")).to_have_count(1)


def test_numbers_are_sorted_as_numbers_and_what_is_not_known_comes_last(page: Page) -> None:
    search = table(page, "Amplifying ratio of the excitation")
    head = search.get_by_role("button", name="alpha")
    head.click()
    assert column(search, 2) == ["64", "16", "1"]
    difference = search.get_by_role("button", name="difference")
    for _ in range(2):
        difference.click()
        assert column(search, 2)[-1] == "16"  # has no difference from itself
    numbers = [float(text.replace("\N{MINUS SIGN}", "-")) for text in column(search, 6)[:-1]]
    assert numbers == sorted(numbers)


def test_values_under_the_pointer_and_on_focus(page: Page, made: Made) -> None:
    rows = sorted(made.table("table1"), key=lambda row: -float(row["roc_auc"]))
    tip = page.get_by_role("status")
    expect(tip).to_be_hidden()
    chart = page.get_by_role("img", name="Macro ROC-AUC of 6 architectures")
    chart.locator("g .label").nth(1).hover()
    expect(tip).to_contain_text(f"{rows[1]['cell']}: {float(rows[1]['roc_auc']):.4f}, 95")
    expect(tip).to_contain_text("seed 0 0.")
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    chart.focus()
    expect(tip).to_contain_text(rows[1]["cell"])  # where one was
    for key, row in (
        ("ArrowDown", 2),
        ("Home", 0),
        ("ArrowUp", 0),
        ("End", 5),
        ("ArrowRight", 5),
        ("ArrowLeft", 4),
    ):
        page.keyboard.press(key)
        expect(tip).to_contain_text(f"{rows[row]['cell']}: ")
    box, mark = tip.bounding_box(), chart.locator("g").nth(4).locator(".mark").bounding_box()
    assert box
    assert mark
    assert abs(box["y"] + box["height"] - mark["y"]) < 40
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_points_of_curves(page: Page) -> None:
    tip = page.get_by_role("status")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        chart = page.get_by_role("img", name="Validation loss of SE by epoch")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 60)  # near the end of the curves
        expect(tip).to_contain_text(re.compile(r"SE, (no )?multi, seed [012], epoch 5: 0\.\d{4}"))
        expect(chart.locator(".on")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shown = tip.bounding_box()
        assert shown
        assert shown["x"] >= 0
        assert shown["x"] + shown["width"] <= width
        chart.focus()
        page.keyboard.press("Home")
        expect(tip).to_contain_text("SE, multi, seed 0, epoch 1: 0.")
        assert set(chart.locator(".number").all_text_contents()) == {"0", "1", "2"}


def test_the_page_is_whole_without_its_script(browser: Browser, made: Made) -> None:
    without = browser.new_page(java_script_enabled=False, viewport={"width": WIDTHS[1], "height": 900})
    without.goto(f"file://{made.out}/index.html")
    scores = table(without, "Scores on the test split")
    assert len(column(scores, 1)) == 6
    assert scores.get_by_role("button").count() == 0
    titles = without.locator(".chart g > title")
    assert titles.count() > 20
    without.close()


def test_on_paper(page: Page) -> None:
    """Dark letters on light paper, also of those who read in the dark, without what paper cannot do."""
    page.emulate_media(media="print", color_scheme="dark")
    rgb = page.evaluate("getComputedStyle(document.body).color")
    assert sum(map(int, re.findall(r"\d+", rgb))) < 200
    expect(page.get_by_role("navigation")).to_be_hidden()
