"""Pages of hostile notebooks in a real browser."""

from __future__ import annotations

import pytest
from browsing import browser, open_page
from test_attacks import ATTACKS, Graded, classes

__all__ = ["browser", "classes"]

pytestmark = [pytest.mark.kernel, pytest.mark.browser]

SELECTED = [name for name in ATTACKS if name.partition("/")[0] in ("text", "files")]
"""What `classes` grades for this module."""


def test_pages_of_hostile_notebooks_do_nothing(browser, classes: list[Graded]) -> None:
    """
    On no page does a learner's text run, fetch, change the title or break the policy.
    """
    pages = [path for one in classes for path in one.out.rglob("*.html")]
    for page in pages:
        open_page(browser, page)
        assert browser.execute_script("return typeof window.hacked") == "undefined", page
        is_class = page.name == "index.html"
        assert browser.title.startswith("Class: Tiles" if is_class else f"{page.parent.name}: "), (
            page
        )
        script = "return performance.getEntriesByType('resource').length"
        assert browser.execute_script(script) == 0, page
        script = (
            "return document.querySelectorAll('script, iframe, object, embed, svg script').length"
        )
        assert browser.execute_script(script) == is_class, page
        assert browser.get_log("browser") == [], page
    assert len(pages) > len(SELECTED)
