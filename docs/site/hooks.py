"""Hooks of mkdocs: pages that are made when the site is built, and links out of ``docs/``.

READMEs of other folders become pages. A link between two pages leads to the page; a link to a file
that is not on the site becomes plain text. A link to a file that does not exist stays, and mkdocs
reports it.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import reference_pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/RESULTS.md": "results.md",
    "clusters/README.md": "clusters.md",
    "hft_ray/demo/README.md": "demo.md",
    "hft_ray/suites/README.md": "suites.md",
}
"""File of the repository -> page of the site; files in ``docs/`` are pages of the same name."""
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<link>[^)\s]+)\)")
IMAGE = re.compile(r'(?<=src=")[^"]+')
ROLE = re.compile(r":(?:func|class|meth|mod):(?=<code>)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in ``docs/``."""
    pages = {page: (ROOT / source).read_text("utf-8") for source, page in PAGES.items()}
    for page, text in {**pages, **reference_pages.pages()}.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Have links lead to where their targets are on the site."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    markdown = LINK.sub(lambda found: _link(found, source, here), markdown)
    return IMAGE.sub(lambda found: _moved(found[0], source, here) or found[0], markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Leave out the roles of Sphinx, which docstrings have before names."""
    return ROLE.sub("", html)


def _link(found: re.Match[str], source: str, here: str) -> str:
    link = found["link"]
    if "://" in link or link.startswith(("#", "mailto:")):
        return found[0]
    target, anchor, name = link.partition("#")
    moved = _moved(target, source, here)
    if moved is None:
        return found["text"]
    return f"{found['image']}[{found['text']}]({moved}{anchor}{name})"


def _moved(target: str, source: str, here: str) -> str | None:
    """Return the link from the page ``here`` to a file that ``source`` links to.

    None if the file is there, but not on the site.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in PAGES:
        page = PAGES[path]
    elif path.startswith("docs/") or not (ROOT / path).exists():
        page = path.removeprefix("docs/")
    else:
        return None
    return os.path.relpath(page, posixpath.dirname(here) or ".").replace(os.sep, "/")
