"""The explorer in a real browser: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from facefocus.analysis.summary import summarize
from facefocus.core.locations import cache_dir
from facefocus.core.text import number, with_bounds
from facefocus.report.page import write_report
from tests.report.fabricated import add_gallery, row, table, write_run
from tests.report.page_files import read_packed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("There is no Chromium here.", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed.")

EVIL = "<img src=x onerror=alert(1)>"
PEOPLE = ("Ada", "Bo", "Cy", EVIL, "Ed", "Fe", "Gil", "Hal", "Ian", "Jo")
AXE = ("axe-core@4.10.3", "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb")


def results() -> pl.DataFrame:
    """Two recognizers with maps of each other, every selector with two values, an oracle."""
    draw = np.random.default_rng(5)
    rows = []
    for target in ("net-a", "net-b"):
        maps = [
            (source, method, layer)
            for source in ("net-a", "net-b")
            for method, layer in (("layer-cam", "1"), ("layer-cam", "N"), ("grad-cam", "N"))
        ]
        others = [(None, "random", None), (target, "oracle", None)]
        for source, method, layer in [*maps, *others]:
            size = {"layer-cam": 0.3, "grad-cam": 0.2, "random": 0.1, "oracle": 0.8}[method]
            size *= 0.6 if source not in (None, target) else 1.0
            for control in (None, "shifted", "other") if source and method != "oracle" else (None,):
                for split in ("same", "heldout"):
                    for budget in (0.01, 0.03):
                        for fill in ("black", "inpaint"):
                            lost = (
                                size * (0.4 if control else 1) * (0.6 if fill == "inpaint" else 1)
                            )
                            lost *= 1.4 if budget > 0.02 else 1
                            # With the gap filled in, random pixels take as much at the larger one.
                            if method == "random" and fill == "inpaint" and budget > 0.02:
                                lost = 0.4
                            for name in PEOPLE:
                                drop = float(np.clip(lost * draw.uniform(0.5, 1.5), 0, 0.9))
                                rows.append(
                                    row(
                                        source=source,
                                        target=target,
                                        method=method,
                                        layer=layer,
                                        layer_calls={"1": "1", "N": "48"}.get(layer or ""),
                                        control=control,
                                        split=split,
                                        budget=budget,
                                        fill=fill,
                                        identity=name,
                                        clean_rate=0.95,
                                        rate=0.95 - drop,
                                        cosine=0.6 - 0.5 * drop,
                                        images=4 + len(name) % 5,
                                    )
                                )
    return table(rows)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page whose path has spaces and letters that are not ASCII."""
    folder = tmp_path_factory.mktemp("runs") / "Übung mit Leerzeichen"
    write_run(folder, results())
    add_gallery(folder, [EVIL, "Ada"])
    groups = [f"{name},{'dark' if index % 2 else 'light'}" for index, name in enumerate(PEOPLE)]
    (folder / "groups.csv").write_text("\n".join(["identity,hair", *groups]))
    write_report(folder, groups=folder / "groups.csv")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page that was opened, and what it complained of or asked for."""

    def __init__(self, browser: Any, run: Path, state: str = "", **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.page.set_default_timeout(60_000)
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self.note)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto((run / "report" / "index.html").as_uri() + state)
        self.page.wait_for_selector("body[data-drawn]", state="attached")

    def note(self, message: Any) -> None:
        # Vega-Lite warns that a chart whose rows have a height is only as wide as its place.
        if message.type in ("error", "warning") and "fit-y" not in message.text:
            self.problems.append(message.text)

    def act(self, action: Any) -> None:
        """Do something that draws the page anew, and wait until it has."""
        before = int(self.page.locator("body").get_attribute("data-drawn"))
        action()
        for _ in range(400):
            if int(self.page.locator("body").get_attribute("data-drawn")) > before:
                return
            self.page.wait_for_timeout(25)
        raise AssertionError("The page was not drawn anew.")

    def show(self, state: str = "") -> Opened:
        """Follow a link to a state of the page, without loading it anew."""
        self.act(lambda: self.page.evaluate("state => { location.hash = state; }", state))
        return self

    def select(self, name: str, value: str) -> None:
        self.act(lambda: self.page.locator(f"#select-{name}").select_option(value))

    def column(self, name: str) -> list[str]:
        return [
            cell.split("\n")[0]
            for cell in self.page.locator(f".live td[data-column={name}]").all_inner_texts()
        ]

    def shown(self) -> str:
        """What is on the screen: sentence, first picture and table."""
        texts = [
            self.page.locator("#answer").inner_text(),
            self.page.locator("#first .plot").get_attribute("aria-label"),
            self.page.locator(".live table").inner_text(),
        ]
        return "\n".join(texts)

    @property
    def address(self) -> str:
        return str(self.page.url.split("#")[1])


@pytest.fixture(scope="module")
def opened(browser: Any, run: Path) -> Opened:
    """One page for many tests: each begins by a link, as opening and drawing takes a second."""
    return Opened(browser, run)


@pytest.fixture(scope="module")
def phone(browser: Any, run: Path) -> Opened:
    return Opened(browser, run, viewport={"width": 390, "height": 800})


def test_page_opens_without_a_complaint_and_asks_for_nothing_but_its_files(opened: Opened) -> None:
    assert opened.problems == []
    assert opened.asked and all(url.startswith("file:///") for url in opened.asked)
    assert opened.page.locator("#first svg path").count() > 5
    assert "hiding the 1 % of pixels that" in opened.page.locator("#answer").inner_text()


def test_every_selector_changes_what_is_shown_and_the_address(opened: Opened) -> None:
    opened.show()
    seen = {opened.shown()}
    changes = {"target": "net-b", "maps": "transferred", "split": "heldout", "budget": "0.03",
               "fill": "inpaint", "score": "excess"}  # fmt: skip
    shown = opened.page.locator("#selectors label:visible select")
    assert shown.evaluate_all("all => all.map((one) => one.name)") == list(changes)
    for name, value in changes.items():
        opened.select(name, value)
        assert f"{name}={value}" in opened.address
        assert opened.shown() not in seen, name
        seen.add(opened.shown())
    assert opened.problems == []


def test_a_link_restores_the_view(browser: Any, run: Path, opened: Opened) -> None:
    first = opened.show()
    first.select("fill", "inpaint")
    first.select("target", "net-b")
    first.act(lambda: first.page.locator(".live input[type=search]").fill("layer"))
    again = Opened(browser, run, "#" + first.address)
    assert again.address == first.address
    assert again.shown() == first.shown() and len(again.column("rate")) == 2
    people = again.show("#view=people&person=Ada&level=2")
    assert people.page.locator("#person").input_value() == "Ada"
    assert people.page.locator("#level").inner_text() == "10\N{NO-BREAK SPACE}%"


def test_budgets_at_which_random_pixels_take_as_much_are_shaded(opened: Opened) -> None:
    for fill, shaded in (("black", 0), ("inpaint", 1)):
        opened.show(f"#view=budgets&fill={fill}")
        assert opened.page.locator("#budgets .mark-rect path").count() == shaded, fill
    # The larger budget, of two: the right half of the picture.
    shade = opened.page.locator("#budgets .mark-rect path").bounding_box()
    whole = opened.page.locator("#budgets .plot").bounding_box()
    assert shade["x"] + shade["width"] / 2 > whole["x"] + whole["width"] / 2


def test_numbers_are_those_of_the_runs_table(opened: Opened, run: Path) -> None:
    summary = summarize(pl.read_parquet(run / "results.parquet")).filter(
        pl.col("source").is_null() | (pl.col("source") == pl.col("target")),
        target="net-a", split="same", budget=0.01, fill="black",
    )  # fmt: skip
    assert summary.height == 5
    table = opened.show().page.locator(".live table")
    for record in summary.to_dicts():
        heading = f"{record['method']} @ {record['layer']}" if record["layer"] else record["method"]
        cells = table.locator(
            "tbody tr", has=opened.page.get_by_role("rowheader", name=heading, exact=True)
        )
        for name in ("rate", "cosine"):
            text = cells.locator(f"td[data-column={name}]").inner_text().replace("\n", " ")
            assert text == with_bounds(record[name], record[f"{name}_low"], record[f"{name}_high"])
        assert cells.locator("td[data-column=clean_rate]").inner_text() == number(
            record["clean_rate"]
        )


def test_a_click_on_a_heading_sorts(opened: Opened) -> None:
    opened.show()
    for clicks, down in ((1, True), (2, False)):
        opened.act(lambda: opened.page.locator("thead button", has_text="Cosine").click())
        shown = [float(text) for text in opened.column("cosine")]
        assert shown == sorted(shown, reverse=down), clicks
        head = opened.page.locator("th[aria-sort]")
        assert head.get_attribute("aria-sort") == ("descending" if down else "ascending")
    assert "sort=" in opened.address


def test_a_click_on_a_person_opens_maps_and_masks(opened: Opened) -> None:
    opened.show("#view=people")
    marks = opened.page.locator("[data-chart=scatter] svg .mark-symbol path")
    assert marks.count() == len(PEOPLE)
    names = [re.search(r"hidden: [\d.]+", text) for text in marks.evaluate_all(
        "all => all.map((one) => one.getAttribute('aria-label'))")]  # fmt: skip
    assert all(names)
    opened.act(lambda: marks.nth(0).click(force=True))
    assert "person=" in opened.address
    opened.act(lambda: opened.page.locator("#person").select_option("Ada"))
    tiles = opened.page.locator(".tile")
    assert tiles.count() == 9
    before = tiles.nth(0).inner_text()
    opened.act(lambda: opened.page.locator("#hidden").press("End"))
    after = opened.page.locator(".tile").nth(0).inner_text()
    assert before != after and "1254 pixels hidden" in after
    assert opened.problems == []


def test_groups_of_people_stand_in_their_own_order(opened: Opened, run: Path) -> None:
    opened.show("#view=strata")
    texts = opened.page.locator("[data-chart=strata] .role-axis-label text").all_text_contents()
    strata = read_packed(run / "report" / "data" / "rows-strata.js").table["stratum"]
    groups = strata.unique(maintain_order=True).to_list()
    assert len(groups) > 3 and [text for text in texts if text in groups] == groups


def test_a_cell_of_the_transfer_matrix_opens_that_pair(opened: Opened) -> None:
    opened.show("#view=transfer")
    cells = opened.page.locator("[data-chart=transfer] svg .mark-rect path")
    labels = cells.evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
    index = next(
        i
        for i, text in enumerate(labels)
        if "net-b" in text.split("Maps from")[0] and "Maps from: net-a" in text
    )
    opened.act(lambda: cells.nth(index).click(force=True))
    assert "target=net-b" in opened.address and "maps=net-a" in opened.address
    assert "maps from net-a" in opened.page.locator(".live caption").inner_text()


def test_a_name_that_looks_like_code_stays_text(browser: Any, run: Path) -> None:
    opened = Opened(
        browser, run, "#view=people&person=" + EVIL.replace("=", "%3D").replace(" ", "%20")
    )
    assert EVIL in opened.page.locator("#people-note").inner_text()
    assert opened.page.locator("img").count() == 0
    assert opened.problems == []


def test_all_can_be_done_by_keyboard(browser: Any, run: Path) -> None:
    opened = Opened(browser, run)
    reached = []
    for _ in range(60):
        opened.page.keyboard.press("Tab")
        reached.append(opened.page.evaluate(
            "[document.activeElement.id || document.activeElement.dataset.view ||"
            " document.activeElement.textContent.trim(),"
            " getComputedStyle(document.activeElement).outlineStyle]"))  # fmt: skip
    names = [name for name, _ in reached]
    for wanted in ("select-fill", "select-score", "people", "Recognition"):
        assert wanted in names, names
    assert any("Masks keep to the budget" in name for name in names)
    assert all(outline != "none" for name, outline in reached if name.startswith("select-"))
    opened.page.locator("#views a[data-view=budgets]").focus()
    opened.act(lambda: opened.page.keyboard.press("Enter"))
    assert "view=budgets" in opened.address and opened.page.locator("#budgets").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(phone: Opened, scheme: str) -> None:
    phone.page.emulate_media(color_scheme=scheme)
    for view in ("leaderboard", "transfer", "people", "provenance"):
        phone.show(f"#view={view}")
        wide = phone.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, view
    ground = phone.page.evaluate("getComputedStyle(document.body).backgroundColor")
    bright = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (bright > 200) == (scheme == "light")


def test_it_prints_to_few_pages_with_the_audit(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    assert opened.page.locator("#audit").is_visible()
    printed = opened.page.pdf(format="A4")
    opened.page.emulate_media(media="screen")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 6


def axe() -> str:
    """The accessibility checker's script, from npm once; its hash is known."""
    path = cache_dir() / "tests" / "axe.min.js"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["npm", "pack", AXE[0]], cwd=path.parent, check=True, timeout=60,
                           capture_output=True)  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            pytest.skip(f"{AXE[0]} cannot be had from npm here.")
        with tarfile.open(next(path.parent.glob("axe-core-*.tgz"))) as archive:
            script = archive.extractfile("package/axe.min.js")
            assert script is not None
            path.write_bytes(script.read())
    text = path.read_bytes()
    assert hashlib.sha256(text).hexdigest() == AXE[1]
    return text.decode()


@pytest.fixture(scope="module")
def checker(browser: Any, run: Path) -> Opened:
    """A page with the accessibility checker, which its policy would keep out."""
    script = axe()
    opened = Opened(browser, run, bypass_csp=True)
    opened.page.evaluate(script)
    return opened


@pytest.mark.parametrize("view", ["leaderboard", "transfer", "people", "audit"])
def test_the_accessibility_checker_finds_no_serious_fault(checker: Opened, view: str) -> None:
    violations = checker.show(f"#view={view}").page.evaluate(
        "axe.run().then((all) => all.violations)"
    )
    serious = [
        (violation["id"], [node["html"][:120] for node in violation["nodes"][:3]])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
