"""The report in a real browser: opened, sorted, filtered, with an episode expanded, and on a phone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mlrcbench.runs import Assignment, Result
from mlrcbench.runs.report import summarise, write_html
from tests.runs.report.conftest import HOSTILE


class Page:
    """A report that a reader uses in the browser."""

    def __init__(self, browser: object, path: Path) -> None:
        self.driver = browser
        browser.get(path.as_uri())  # type: ignore[attr-defined]
        self.wait_for("#episodes > tbody > tr")  # a busy browser may answer before its script ran

    def column(self, table: str, number: int) -> list[str]:
        """The texts of a column, which are counted from 1."""
        script = (
            "return [...document.querySelectorAll(`#${arguments[0]} > tbody > tr > td:nth-child("
            "${arguments[1]})`)].map((cell) => cell.textContent)"
        )
        texts = self.run(script, table, number)
        assert isinstance(texts, list)
        return texts

    def run(self, script: str, *arguments: object) -> object:
        """Run a script in the page, and return what it returns."""
        return self.driver.execute_script(script, *arguments)  # type: ignore[attr-defined]

    def click(self, selector: str) -> None:
        """Click on an element."""
        self.driver.find_element("css selector", selector).click()  # type: ignore[attr-defined]

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.driver.find_element("css selector", selector).send_keys(text)  # type: ignore[attr-defined]

    def wait_for(self, selector: str) -> None:
        """Wait until an element is there."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20).until(  # type: ignore[type-var]
            lambda driver: driver.find_elements("css selector", selector)  # type: ignore[attr-defined]
        )

    def complaints(self) -> list[object]:
        """Messages in the browser's console."""
        messages: list[object] = self.driver.get_log("browser")  # type: ignore[attr-defined]
        return messages


def test_a_reader_sorts_filters_and_opens(browser: object, page: Path) -> None:
    """Every part of the page works, and the console stays silent."""
    report = Page(browser, page)
    agents = report.column("leaderboard", 1)
    assert agents[0] == "reference"
    report.click("#leaderboard th:nth-child(2) button")
    report.click("#leaderboard th:nth-child(2) button")
    assert report.column("leaderboard", 1) != agents
    means = [float(text) for text in report.column("leaderboard", 2)]
    assert means == sorted(means)

    assert len(report.column("episodes", 1)) == 6
    report.type("#filter", "reference scored")
    assert len(report.column("episodes", 1)) == 2
    report.click("#episodes .name")
    report.wait_for("td.detail details")
    assert "mlrcbench replay" in str(report.run("return document.querySelector('td.detail').textContent"))
    report.click("#episodes .name")
    assert report.run("return document.querySelector('td.detail')") is None
    assert report.run("return document.querySelectorAll('figure svg').length")
    assert report.complaints() == []


def test_what_a_hostile_agent_wrote_is_shown_and_does_nothing(browser: object, page: Path) -> None:
    """Readers can see its text; the title is still the page's."""
    report = Page(browser, page)
    report.type("#filter", "external")
    report.click("#episodes .name")
    report.wait_for("td.detail details")
    assert HOSTILE in str(report.run("return document.querySelector('td.detail').textContent"))
    assert report.run("return document.title") == "A <b>title</b>"
    assert report.run("return document.querySelector('td.detail img, td.detail script')") is None
    assert report.complaints() == []


def test_it_can_be_read_on_a_phone(browser: object, page: Path) -> None:
    """Nothing but tables, which scroll by themselves, is wider than the screen."""
    browser.set_window_size(400, 800)  # type: ignore[attr-defined]
    report = Page(browser, page)
    assert report.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    browser.set_window_size(1200, 900)  # type: ignore[attr-defined]


def test_a_judge_study_is_shown_where_there_is_one(
    browser: object, page: Path, results: list[Result], judgement: dict[str, Any], tmp_path: Path
) -> None:
    """Its tables can be sorted; without a study the section is hidden."""
    path = tmp_path / "judged.html"
    write_html(summarise(results, "judged", [judgement]), path)
    report = Page(browser, path)
    assert report.run("return document.getElementById('judging').offsetHeight > 0")
    judges = report.column("correlations", 1)
    assert (len(judges), set(judges)) == (60, {"<b>first</b>", "second|", "all"})
    report.click("#correlations th:nth-child(3) button")
    dimensions = report.column("correlations", 3)
    assert dimensions == sorted(dimensions)
    assert len(report.column("agreement", 1)) == 10
    assert report.complaints() == []
    assert Page(browser, page).run("return document.getElementById('judging').offsetHeight") == 0


@pytest.mark.slow
def test_a_thousand_episodes_stay_usable(browser: object, results: list[Result], tmp_path: Path) -> None:
    """A hundred rows are drawn at a time; filtering and opening work; the file stays below 20 MB."""
    many = [
        dataclasses.replace(one, assignment=Assignment(one.assignment.agent[:9], "_template", number, 0))
        for number in range(167)
        for one in results
    ]
    path = tmp_path / "many.html"
    write_html(summarise(many[:1000]), path)
    assert path.stat().st_size < 20_000_000
    report = Page(browser, path)
    assert len(report.column("episodes", 1)) == 100
    report.click("#more")
    assert len(report.column("episodes", 1)) == 200
    report.type("#filter", "reference-i165-t0")
    assert len(report.column("episodes", 1)) == 2
    report.click("#episodes .name")
    report.wait_for("td.detail details")
    assert report.complaints() == []
