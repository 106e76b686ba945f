"""The board in a real browser: wide and narrow, light and dark, sorted, filtered, linked to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    """The index, opened for each test."""
    browser.get((site / "index.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_board_can_be_read(page: Any, width: int, scheme: str) -> None:
    """Nothing is wider than the window, text stands out, nothing is loaded, and no hostile script ran."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    ink, paper = page.execute_script(
        "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    )
    brightness = [sum(map(int, color[4:-1].split(","))) for color in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    assert abs(brightness[0] - brightness[1]) > 400
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert page.title != "owned"


def _names(page: Any) -> list[str]:
    rows = page.find_elements("css selector", "#entries tbody tr")
    return [row.find_elements("css selector", "td")[1].text[:9] for row in rows if row.is_displayed()]


def test_rows_are_sorted_filtered_and_linked_to(page: Any) -> None:
    """A column's heading sorts, words filter, and the rank links to its row; an entry opens its page."""
    assert _names(page)[0] == "Reference"
    public = page.find_elements("css selector", "#entries th button")[3]
    public.click()
    assert _names(page)[0] == "Reference"
    public.click()
    assert _names(page)[1] == "Reference"
    page.find_element("css selector", "#filter").send_keys("reference cc-by")
    assert _names(page) == ["Reference"]
    assert page.find_element("css selector", "#shown").text == "1 of 2 shown"
    page.find_element("css selector", "#entries tbody tr:not([hidden]) td:first-child a").click()
    assert page.execute_script("return document.querySelector('tr:target').id === location.hash.slice(1)")
    page.find_element("css selector", "tr:target td:nth-child(2) a").click()
    assert page.find_element("css selector", "h1").text == "Reference (honest.mlrc)"
    page.find_element("css selector", "#episodes .name").click()
    page.execute_async_script("setTimeout(arguments[0], 1000)")
    text = page.find_element("css selector", "td.detail").text
    assert "What it changed in the starter" in text
    assert "How the agent worked" in text
