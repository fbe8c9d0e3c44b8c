"""The documentation as a site: it builds without a broken link, and its reference is complete."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

import hft_ray
from hft_ray.cli.main import app
from hft_ray.config import Config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as ``make docs`` does."""
    out = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(out), strict=True))
    return out


def text(site, page):
    """Return the text of a page's article."""
    content = (site / page / "index.html").read_text("utf-8")
    (article,) = re.findall(r"<article.*?</article>", content, re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", article))


def headings(site, page):
    content = (site / page / "index.html").read_text("utf-8")
    return set(re.findall(r'<h2 id="([^"]+)"', content))


def test_every_page_of_the_folder_and_of_the_menu_is_there(site):
    pages = {path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")}
    written = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert written <= pages
    assert pages - written == {
        *(".", "clusters", "contributing", "demo", "results", "suites"),
        *(f"reference/{page}" for page in ("commands", "python", "settings")),
    }


def test_the_start_is_the_readme_with_links_to_pages(site):
    start = (site / "index.html").read_text("utf-8")
    for link in ("data/", "storage/#what-is-in-mlflow", "demo/", "clusters/", "contributing/"):
        assert f'href="{link}"' in start
    assert 'src="front.png"' in start
    assert (site / "front.png").is_file()
    # A file that is not a page is named without a link.
    assert "the image" in text(site, "clusters")


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        content = page.read_text("utf-8")
        fetched = re.findall(r'<(?:script|img|source)[^>]+src="([^"]+)"', content)
        fetched += re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="([^"]+)"', content)
        assert not [each for each in fetched if "//" in each], page


def test_the_reference_has_every_setting_command_and_function(site):
    schema = Config.model_json_schema()
    settings = text(site, "reference/settings").split()
    for section in (schema, *schema["$defs"].values()):
        assert not section.get("properties", {}).keys() - {*settings}
    assert {name.lower() for name in schema["$defs"]} <= headings(site, "reference/settings")
    commands = text(site, "reference/commands")
    for command in app.registered_commands:
        assert command.name in headings(site, "reference/commands")
        assert f"hft-ray {command.name} " in commands
    assert "--dry-run" in commands
    names = {f"hft_ray.{name}" for name in hft_ray.__all__ if not name.startswith("__")}
    assert names <= headings(site, "reference/python")
    # Docstrings are shown without the roles of Sphinx.
    assert not re.search(r":(func|class|meth|mod):", text(site, "reference/python"))


@pytest.mark.parametrize("link", ["other.md#there", "missing.md", "other.md#missing", "../no.py"])
def test_a_broken_link_is_an_error(link, tmp_path):
    docs, hook = tmp_path / "docs", tmp_path / "links.py"
    docs.mkdir()
    (docs / "index.md").write_text(f"See [this]({link}).")
    (docs / "other.md").write_text("## There")
    # The links of a page alone: without the pages that are made.
    path = f"import sys\nsys.path.insert(0, {str(ROOT / 'docs' / 'site')!r})\n"
    hook.write_text(f"{path}from hooks import on_page_markdown\n")
    changed = {"docs_dir": str(docs), "site_dir": str(tmp_path / "site"), "hooks": [str(hook)]}
    changed |= {"nav": ["index.md", "other.md"], "plugins": ["search"], "strict": True}
    config = load_config(str(ROOT / "mkdocs.yml"), **changed)
    if link == "other.md#there":
        build(config)
        return
    with pytest.raises(Abort):
        build(config)
