"""The pages in a real browser: accessible, inert, and usable without a mouse or a server."""

from __future__ import annotations

from pathlib import Path

import pytest
import reporting_samples as samples
from browsing import By, Keys, Select, browser, grave_findings, open_page

from nbassay.reporting.write import write_reports

__all__ = ["browser"]

pytestmark = pytest.mark.browser

PAGES = {
    "class": "index.html",
    "never scaled": "learners/grace/report.html",
    "good": "learners/ada/report.html",
    "stopped": "learners/edsger/report.html",
    "needs review": "learners/kurt/report.html",
    "unreadable": "learners/barbara/report.html",
    "not run": "learners/alan/report.html",
    "hostile": "learners/mallory/report.html",
}
ON_EVERY_PAGE = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A graded class on disk, a hostile learner among it."""
    out = tmp_path_factory.mktemp("class")
    graded = samples.sample_class()
    people = [samples.with_learner(one, file="Übung ÄÖ.ipynb") if one.learner == "hedy" else one
              for one in graded.submissions]  # fmt: skip
    write_reports(
        samples.results([*people, samples.hostile()]),
        workshop_title=samples.WORKSHOP_TITLE,
        reports_dir=samples.REPORTS_DIR,
        pristine_rows=samples.pristine_row,
        out=out,
        step_titles=samples.STEP_TITLES,
    )
    return out


def shown_learners(browser) -> list[str]:
    """Names in the table of learners, as they stand."""
    rows = browser.find_elements(By.CSS_SELECTOR, "#learners-table tbody tr")
    return [row.find_element(By.CSS_SELECTOR, "th a").text for row in rows if row.is_displayed()]


@ON_EVERY_PAGE
@pytest.mark.parametrize(
    ("width", "dark"), [(1100, False), (1100, True), (360, False), (360, True)],
    ids=["desktop light", "desktop dark", "phone light", "phone dark"],
)  # fmt: skip
def test_accessible(browser, site, page, width, dark):
    """
    axe-core finds nothing beyond the minor, and the body does not scroll sideways.
    """
    open_page(browser, site / page, width=width, dark=dark)

    assert grave_findings(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.body.scrollWidth") <= width


@ON_EVERY_PAGE
@pytest.mark.parametrize("width", [360, 480, 700, 1100])
def test_every_column_is_on_the_page(browser, site, page, width):
    """
    No table has to be scrolled sideways, and no cell of one is cut or lies beside the window.
    """
    open_page(browser, site / page, width=width)

    outside = """
      const tooFar = (e) => {
        const box = e.getBoundingClientRect();
        return box.width > 0 && (box.right > innerWidth + 0.5 || e.scrollWidth > e.clientWidth + 1);
      };
      const cells = document.querySelectorAll(".plain :is(th, td):not(thead th)");
      return [...cells].filter(tooFar).map((e) => e.textContent);
    """
    scrolled = """
      return [...document.querySelectorAll(".scroller")].filter(
        (e) => e.scrollWidth > e.clientWidth).map((e) => e.getAttribute("aria-label"));
    """
    assert browser.execute_script(scrolled) == []
    assert browser.execute_script(outside) == []


@pytest.mark.parametrize("width", [360, 1100])
def test_long_names_leave_the_marks_in_sight(browser, tmp_path, width):
    """
    A name and a file of many letters without a blank are wrapped; marks stay beside them.
    """
    one = samples.with_learner(samples.never_scaled(), learner="n" * 80, file="f" * 200 + ".ipynb")
    write_reports(
        samples.results([one, samples.good()]),
        workshop_title=samples.WORKSHOP_TITLE,
        reports_dir=samples.REPORTS_DIR,
        pristine_rows=None,
        out=tmp_path,
    )
    open_page(browser, tmp_path / "index.html", width=width)

    cells = browser.find_elements(By.CSS_SELECTOR, "#learners-table tbody tr:last-child > *")
    edges = [cell.rect["x"] + cell.rect["width"] for cell in cells]
    assert len(edges) == 6
    assert max(edges) <= width
    assert cells[2].is_displayed()


def test_tables_keep_their_roles_as_cards(browser, site):
    """
    In a narrow window rows become cards; they are still a table, sorted and filtered as before.
    """
    open_page(browser, site / "index.html", width=360)
    roles = "return [...arguments[0].children].map((e) => e.getAttribute('role'))"
    row = browser.find_element(By.CSS_SELECTOR, "#learners-table tbody tr")
    heads = browser.find_elements(By.CSS_SELECTOR, "#learners-table thead th")

    assert row.value_of_css_property("display") == "grid"
    assert len({head.rect["y"] for head in heads}) < len(heads)  # beside each other
    assert browser.execute_script(roles, row) == ["rowheader", *["cell"] * 5]
    heads[2].find_element(By.TAG_NAME, "button").click()
    assert shown_learners(browser)[0] == "mallory"
    browser.find_element(By.ID, "filter-text").send_keys("ken")
    assert shown_learners(browser) == ["ken"]


@ON_EVERY_PAGE
def test_inert(browser, site, page):
    """
    Nothing of a learner's runs: no dialog, nothing in the console, nothing loaded, title as meant.
    """
    browser.get_log("browser")
    open_page(browser, site / page)

    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    titles = {"index.html": f"Class: {samples.WORKSHOP_TITLE}"}
    learner = page.split("/")[-2] if "/" in page else ""
    assert browser.title == titles.get(page, f"{learner}: {samples.WORKSHOP_TITLE}")
    assert len(browser.find_elements(By.CSS_SELECTOR, "script")) == (page in titles)


def test_the_policy_stops_other_scripts(browser, site):
    """
    The class page runs its own script and no other, even if one came in.
    """
    open_page(browser, site / "index.html")
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = \"no\"';"
        "document.body.append(s);"
    )

    assert browser.title == f"Class: {samples.WORKSHOP_TITLE}"
    assert "Content Security Policy" in browser.get_log("browser")[-1]["message"]


def test_sorting(browser, site):
    """
    A click sorts a column, another turns it round, and what has no value stays last.
    """
    open_page(browser, site / "index.html")
    heads = browser.find_elements(By.CSS_SELECTOR, "#learners-table thead th")
    before = shown_learners(browser)
    mark = heads[2]

    mark.find_element(By.TAG_NAME, "button").click()
    lowest_first = shown_learners(browser)
    assert mark.get_attribute("aria-sort") == "ascending"
    assert heads[0].get_attribute("aria-sort") is None
    mark.find_element(By.TAG_NAME, "button").click()
    highest_first = shown_learners(browser)
    assert mark.get_attribute("aria-sort") == "descending"

    assert before == sorted(before)
    assert lowest_first[0] == "mallory"
    assert highest_first[0] == "ada"
    assert set(lowest_first[-2:]) == set(highest_first[-2:]) == {"alan", "barbara"}
    assert sorted(lowest_first) == sorted(highest_first) == before


def test_sorting_by_keyboard(browser, site):
    """
    A sort button can be reached and pressed without a mouse, and shows that it has the focus.
    """
    open_page(browser, site / "index.html")
    head = browser.find_elements(By.CSS_SELECTOR, "#learners-table thead th")[1]
    previous = browser.find_elements(By.CSS_SELECTOR, "#learners-table thead th button")[0]

    previous.send_keys(Keys.TAB)
    focused = browser.switch_to.active_element
    outline = focused.value_of_css_property("outline-style")
    focused.send_keys(Keys.ENTER)

    assert focused.text == "Status"
    assert outline == "solid"
    assert head.get_attribute("aria-sort") == "ascending"


def test_filtering(browser, site):
    """
    Words and status narrow the table together, and the count says by how much.
    """
    open_page(browser, site / "index.html")
    text = browser.find_element(By.ID, "filter-text")
    count = browser.find_element(By.ID, "filter-count")
    assert count.text == "25 of 25 shown"

    text.send_keys("PREP.scaling")
    assert shown_learners(browser) == ["grace", "ken", "mary"]
    assert count.text == "3 of 25 shown"
    text.send_keys(" ken")
    assert shown_learners(browser) == ["ken"]
    text.clear()
    text.send_keys("u\u0308BUNG äö")
    assert shown_learners(browser) == ["hedy"]
    text.clear()
    text.send_keys("nobody")
    assert count.text == "0 of 25 shown"
    text.clear()
    text.send_keys(" ")
    Select(browser.find_element(By.ID, "filter-status")).select_by_visible_text("needs review")
    assert shown_learners(browser) == ["kurt", "mallory"]
    assert count.get_attribute("aria-live") == "polite"


def test_without_script_it_is_a_plain_table(browser, site):
    """
    Without script the table is complete and no control is shown that would not work.
    """
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        open_page(browser, site / "index.html")
        assert len(shown_learners(browser)) == 25
        assert browser.find_elements(By.CSS_SELECTOR, "#learners-table button") == []
        assert not browser.find_element(By.ID, "filter").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_links_lead_to_reports_and_back(browser, site):
    """
    A learner's link opens their report from disk.
    """
    open_page(browser, site / "index.html")

    browser.find_element(By.LINK_TEXT, "grace").click()

    assert browser.find_element(By.TAG_NAME, "h1").text == "Report for grace"


def test_skip_link(browser, site):
    """
    The first thing that Tab reaches leads past the contents.
    """
    open_page(browser, site / "learners/grace/report.html")

    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = browser.switch_to.active_element
    assert focused.text == "Skip to the content"
    focused.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"
