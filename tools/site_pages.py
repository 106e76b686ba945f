"""What the site of the documentation adds to the pages in `docs/`; MkDocs calls it, see `mkdocs.yml`.

- Contributing and the changelog, which lie outside of `docs/`, become pages of the site.
- A link to a file of the repository leads to a page with the file's text, and a link to a folder to a page
  that lists the folder's modules; so no link leaves the site.
- Each picture has a version for light pages and one for dark pages.
- The commands and their options are listed as the program itself describes them.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from tools.site_commands import list_commands

ROOT = Path(__file__).resolve().parents[1]
# Files outside of `docs/` that are pages of the site, and README, whose place the landing page takes.
LANDING = "index.md"
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": LANDING}
COMMANDS_MARK = "<!-- commands -->"
MAX_BYTES = 60_000  # of a file's text that its page shows
LEXERS = {".py": "python", ".toml": "toml", ".md": "markdown", ".jsonl": "json"}
_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")
_PICTURE = re.compile(r"^!\[([^\]]*)\]\(([^)\s]+)\.svg\)$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that `docs/` does not have, and the pictures in two versions."""
    pages = {page.src_uri: page.content_string for page in files.documentation_pages()}
    for name, uri in OUTSIDE.items():
        if uri not in pages:
            pages[uri] = (ROOT / name).read_text("utf-8")
            nav = InclusionLevel.INCLUDED
            files.append(File.generated(config, uri, content=pages[uri], inclusion=nav))
    linked = {path for uri, text in pages.items() for path in _outside(text, origin_of(uri))}
    for path in sorted(linked | {module for folder in linked for module in _modules(ROOT / folder)}):
        hidden = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, uri_of(path), content=source_page(path), inclusion=hidden))
    for picture in [file for file in files if file.src_uri.endswith(".svg")]:
        stem = picture.src_uri.removesuffix(".svg")
        for scheme, text in variants(picture.content_string).items():
            files.append(File.generated(config, f"{stem}.{scheme}.svg", content=text))
        files.remove(picture)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Make links and pictures of a page lead to what the site has."""
    uri: str = page.file.src_uri
    markdown = markdown.replace(COMMANDS_MARK, list_commands())
    if uri == LANDING:
        page.meta["hide"] = ["navigation", "toc"]
    if uri.startswith("source/"):
        return markdown

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin_of(uri)), match[1]))
        return posixpath.relpath(uri_of(target), posixpath.dirname(uri) or ".")

    return _PICTURE.sub(_both_schemes, _LINK.sub(moved, markdown))


def origin_of(uri: str) -> str:
    """The repository's file that a page is made of."""
    names = {page: name for name, page in OUTSIDE.items() if page != LANDING}
    return names.get(uri, f"docs/{uri}")


def uri_of(path: str) -> str:
    """The page, or other file of the site, that shows a path of the repository."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    inside = path.removeprefix("docs/")
    return inside if inside != path else f"source/{path}.md"


def _outside(text: str, origin: str) -> Iterator[str]:
    """The repository's files and folders, beside those that are pages, to which a page's text links."""
    for link in _LINK.findall(text):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
        if not path.startswith("docs/") and path not in OUTSIDE and (ROOT / path).exists():
            yield path


def _modules(folder: Path) -> list[str]:
    """The modules of a folder; of a file, none."""
    return [path.relative_to(ROOT).as_posix() for path in sorted(folder.glob("*.py"))]


def source_page(path: str) -> str:
    """The page of a file or folder of the repository, which the search leaves out."""
    head = f"---\nsearch:\n  exclude: true\n---\n\n# `{path.removeprefix('src/mlrcbench/')}`\n\n"
    place = ROOT / path
    if place.is_dir():
        modules = [(path.name, _first_line(path)) for path in sorted(place.glob("*.py"))]
        folders = [path.name for path in sorted(place.iterdir()) if path.is_dir() and path.name[0] != "_"]
        rows = [f"- [`{name}`]({posixpath.basename(path)}/{name}.md): {line}" for name, line in modules]
        return head + "\n".join([*rows, *(f"- `{name}/`" for name in folders)])
    text = place.read_text("utf-8")
    note = "" if len(text) <= MAX_BYTES else f"The first {MAX_BYTES:,} characters.\n\n"
    shown = highlight(text[:MAX_BYTES], get_lexer_by_name(LEXERS.get(place.suffix, "text")), HtmlFormatter())
    return f"{head}{note}{shown}"


def _first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "empty").splitlines()[0]


def _both_schemes(match: re.Match[str]) -> str:
    """Markdown of a picture that shows the version for the page's colours."""
    alt, stem = match[1], match[2]
    images = " ".join(f"![{alt}]({stem}.{scheme}.svg#only-{scheme})" for scheme in ("light", "dark"))
    return f'<div class="drawing" markdown="span">{images}</div>'


def variants(svg: str) -> dict[str, str]:
    """A picture for light and for dark pages, whatever the system's colours are.

    A picture of `tools/svg.py` has both sets of colours already. One of matplotlib's has black strokes and
    glyphs on white, of which the dark version makes light ones on nothing.
    """
    media = re.compile(r"@media \(prefers-color-scheme:dark\)\{(svg\{[^}]*\})\}")
    if media.search(svg):
        return {"light": media.sub("", svg), "dark": media.sub(r"\1", svg)}
    clear = re.sub(r"fill: #ffffff", "fill: none", svg)
    dark = clear.replace("#000000", "#e6edf3").replace("<svg ", '<svg fill="#e6edf3" ', 1)
    return {"light": clear, "dark": dark}
