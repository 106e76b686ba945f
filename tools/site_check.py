"""Check the built site as a reader meets it: no broken link, nothing from elsewhere, no error in a browser.

    python -m tools.site_check [--pictures FOLDER] [PAGE ...]

Every link and anchor of every page is followed. Where Chromium and its driver are installed, each page of the
navigation is opened as well, on a desktop in light colours and on a phone in dark ones: it must not complain,
load nothing from a network, and not be wider than the window; and the search must find what it is asked for.
With `--pictures`, what the browser shows is kept, in all four ways.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).resolve().parents[1] / "site"
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = {"light": "default", "dark": "slate"}
LOOKS = (("desktop", "light"), ("phone", "dark"))  # how pages are opened unless all pictures are wanted
QUERY = ("improvement", "metrics")  # what is searched for, and the name of a page that must be listed
_FETCHED = re.compile(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)")


class _Page(HTMLParser):
    """The links of a page, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {"", "__top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one tag has."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif "src" in values:
            self.loaded.append(values["src"])
        elif tag == "link" and values.get("rel") not in {"canonical", "prev", "next"}:
            self.loaded.append(values.get("href", ""))


def broken_links(site: Path) -> Iterator[str]:
    """Each link that leads nowhere, and each thing that a page loads from elsewhere."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    yield f"{name} loads {link}"
                continue
            # Only the page for addresses that do not exist counts from the site's root.
            start = site if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name} links to {link}, which does not exist"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name} links to {link}, whose anchor does not exist"
    for path in sorted(site.rglob("*.css")):
        for address in _FETCHED.findall(path.read_text("utf-8")):
            yield f"{path.relative_to(site)} loads {address}"


class Browser:
    """Headless Chromium that looks at pages of the site.

    Args:
        site: The folder of the site.
        pictures: Where pictures go, if they are kept.
    """

    def __init__(self, site: Path, pictures: Path | None) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver: Any = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        self.site, self.pictures = site, pictures

    def look(self, name: str, device: str, scheme: str) -> Iterator[str]:
        """Open a page in a size and in colours; returns what is wrong with it."""
        width = self._resize(device)
        preference = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preference})
        self.driver.get((self.site / name).as_uri())
        where = f"{name} ({device}, {scheme})"
        for entry in self.driver.get_log("browser"):
            yield f"{where}: {entry['message']}"
        for address in self._requests():
            yield f"{where} asks for {address}"
        if self.driver.execute_script("return document.documentElement.scrollWidth") > width:
            yield f"{where} is wider than the window"
        if self.driver.execute_script("return document.body.dataset.mdColorScheme") != SCHEMES[scheme]:
            yield f"{where} has other colours"
        for picture in self.driver.execute_script(
            "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        ):
            yield f"{where} cannot show {picture}"
        if self.pictures:
            path = self.pictures / f"{name.removesuffix('.html').replace('/', '-')}-{device}-{scheme}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(path))

    def _resize(self, device: str) -> int:
        """Make the window as large as a device's; returns its width."""
        width, height = WIDTHS[device]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": device == "phone"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        return width

    def _requests(self) -> Iterator[str]:
        """Addresses beyond this machine's files that the page has asked for."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                address = message["params"]["request"]["url"]
                if urlsplit(address).scheme not in {"file", "data", "blob"}:
                    yield address

    def search(self) -> Iterator[str]:
        """Search for a word; returns what is wrong with the answer."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        self._resize("desktop")
        self.driver.get((self.site / "index.html").as_uri())
        word, page = QUERY
        self.driver.execute_script("document.querySelector('[data-md-toggle=search]').click()")
        try:
            field = self.driver.find_element("css selector", ".md-search__input")
            WebDriverWait(self.driver, 20).until(lambda _: field.is_displayed())
            field.send_keys(word)
            WebDriverWait(self.driver, 20).until(
                lambda driver: driver.find_elements("css selector", f".md-search-result a[href*='{page}']")
            )
        except TimeoutException:
            yield f"the search for {word!r} does not find the page {page!r}"
        if self.pictures:
            self.driver.save_screenshot(str(self.pictures / "search.png"))


def shown_pages(site: Path) -> list[str]:
    """The pages that readers come to by the navigation."""
    names = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    return [name for name in names if name != "404.html" and not name.startswith("source/")]


def main(arguments: list[str]) -> int:
    """Print what is wrong; status 1 if there is anything."""
    parser = argparse.ArgumentParser(prog="python -m tools.site_check", description="Check the built site.")
    parser.add_argument("page", nargs="*", help="pages to open in the browser (default: all)")
    parser.add_argument("--pictures", type=Path, help="folder for what the browser shows")
    options = parser.parse_args(arguments)
    problems = list(broken_links(SITE))
    if shutil.which("chromium") and shutil.which("chromedriver"):
        browser = Browser(SITE, options.pictures)
        try:
            for name in options.page or shown_pages(SITE):
                for device, scheme in itertools.product(WIDTHS, SCHEMES) if options.pictures else LOOKS:
                    problems += browser.look(name, device, scheme)
            problems += browser.search()
        finally:
            browser.driver.quit()
    else:
        print("Chromium or its driver is missing: the pages were not opened")
    print("\n".join(problems) or "the site is as it should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
