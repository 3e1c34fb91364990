"""Pages in headless Chromium: what the tests that open a page share."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

__all__ = ["By", "Keys", "Select", "browser", "grave_findings", "open_page"]


def axe_script() -> str:
    """The text of axe-core, from whichever package of the test extra ships it."""
    for package in ("axe_playwright_python", "axe_core_python"):
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or []) if found else []:
            script = Path(folder) / "axe.min.js"
            if script.is_file():
                return script.read_text("utf-8")
    pytest.skip("axe-core is not installed (pip install axe-core-python)")


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    """Headless Chromium with an empty profile of its own."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium with chromedriver on this machine")
    profile = tempfile.mkdtemp(prefix="nbassay-browser-")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",  # Chromium's own needs an ordinary user; the pages are ours
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()
    shutil.rmtree(profile, ignore_errors=True)


def open_page(browser, path: Path, *, width: int = 1100, dark: bool = False) -> None:
    """Open a page from disk at a width in CSS pixels."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(path.as_uri())


def grave_findings(browser) -> list[tuple[str, str, list[str]]]:
    """What axe-core finds on the open page beyond the minor: rule, help, places."""
    browser.execute_script(axe_script())
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run().then(r => done(r.violations), e => done(String(e)));"
    )
    assert isinstance(found, list), found
    return [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] != "minor"
    ]
