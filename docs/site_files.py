"""Sphinx extension: the site holds the files of the repository that its pages link to, and shows titles of code blocks.

The pages are written for a reader of the repository, where `../../otel_steps/record.py` is a file. On the site such a
link leads to a page that shows the file; one to a folder leads to a list of its files.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.util import logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

DOCS: Final = Path(__file__).resolve().parent
ROOT: Final = DOCS.parent
PAGES: Final = "repository"
"""Folder of the site that holds the files."""
INCLUDES: Final = re.compile(r"```\{include\} (\S+)\n```\n")
LINK: Final = re.compile(r"(\]\()((?:\.\./)[^)\s]*|(?:\./)?[\w-][\w./-]*)(\))")
TITLED: Final = re.compile(r"^(```+)(\w+) \{title=\"([^\"]+)\".*\}$", re.MULTILINE)
CONSOLE: Final = re.compile(r"^(```console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_log = logging.getLogger(__name__)


def included() -> dict[Path, str]:
    """Pages of the repository which a page of docs is made of: by the file, the page of the site."""
    found: dict[Path, str] = {}
    for page in DOCS.rglob("*.md"):
        if whole := INCLUDES.fullmatch(page.read_text(encoding="utf-8")):
            found[(page.parent / whole[1]).resolve()] = page.relative_to(DOCS).as_posix()
    return found


INCLUDED: Final = included()


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect all of it."""
    app.connect("source-read", _for_the_site)
    app.connect("include-read", _included)
    app.connect("doctree-read", _link_files, priority=100)  # before Sphinx copies what it takes for downloads
    app.connect("html-collect-pages", _files)
    app.connect("env-purge-doc", _forget)
    app.connect("env-merge-info", _merge)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _for_the_site(app: Sphinx, docname: str, content: list[str]) -> None:
    """Rewrite a page before it is parsed."""
    content[0] = _rewritten(content[0], Path(app.env.doc2path(docname)).parent)


def _included(_app: Sphinx, path: Path, _docname: str, content: list[str]) -> None:
    content[0] = _rewritten(content[0], (DOCS / path).resolve().parent)


def _rewritten(text: str, folder: Path) -> str:
    text = CONSOLE.sub(_continued, text)
    text = TITLED.sub(r"\1{code-block} \2\n:caption: \3\n", text)
    return LINK.sub(lambda link: f"{link[1]}{_target(link[2], folder)}{link[3]}", text)


def _continued(block: re.Match[str]) -> str:
    """A console block; the lines of a command that is quoted over several begin with the shell's second prompt."""
    lines: list[str] = []
    quoted = False
    for line in block[2].splitlines():
        lines.append(f"> {line}" if quoted else line)
        if quoted or line.startswith("$ "):
            quoted ^= line.count("'") % 2 == 1
    return "\n".join((block[1], *lines, "```"))


def _target(link: str, folder: Path) -> str:
    """Links to included pages by their name on the site; those out of docs as paths from the root of the repository."""
    name, hash_sign, anchor = link.partition("#")
    target = (folder / unquote(name)).resolve()
    page = INCLUDED.get(target)
    if page is not None:
        return f"/{page}{hash_sign}{anchor}"
    if target.is_relative_to(DOCS) and target.suffix == ".md" and folder.is_relative_to(DOCS):
        return link
    if target.is_relative_to(DOCS) and target.suffix == ".md":
        return f"/{target.relative_to(DOCS)}{hash_sign}{anchor}"
    if target.is_relative_to(ROOT) and target.exists() and target.suffix != ".svg":
        return f"path:/{target.relative_to(ROOT)}"
    return link


def _link_files(app: Sphinx, doctree: nodes.document) -> None:
    """Make links to files lead to the pages that show them."""
    for node in list(doctree.findall(addnodes.download_reference)):
        path = ROOT / node["reftarget"].lstrip("/")
        if not path.exists():
            _log.warning("there is no %s", node["reftarget"], location=node)
            continue
        shown = path.relative_to(ROOT).as_posix()
        _shown(app).setdefault(app.env.docname, set()).add(shown)
        uri = app.builder.get_relative_uri(app.env.docname, f"{PAGES}/{shown}")
        node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))


def _shown(app: Sphinx) -> dict[str, set[str]]:
    """Which files each page links to."""
    env: Any = app.env
    if not hasattr(env, "site_files"):
        env.site_files = {}
    found: dict[str, set[str]] = env.site_files
    return found


def _forget(app: Sphinx, _env: Any, docname: str) -> None:
    _shown(app).pop(docname, None)


def _merge(app: Sphinx, _env: Any, _docnames: list[str], other: Any) -> None:
    _shown(app).update(getattr(other, "site_files", {}))


def _files(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file and folder that is linked to; the files of a linked folder are linked to."""
    linked = set[str]().union(*_shown(app).values())
    folders = {name for name in linked if (ROOT / name).is_dir()}
    inside = {
        path.relative_to(ROOT).as_posix()
        for name in folders
        for path in (ROOT / name).iterdir()
        if path.is_file() and not path.name.endswith((".pyc", ".lock"))
    }
    for name in sorted(linked | inside):
        path = ROOT / name
        here = f"{PAGES}/{name}"
        if path.is_dir():
            names = sorted(each for each in inside if each.rpartition("/")[0] == name.rstrip("/"))
            rows = (
                f'<li><a href="{app.builder.get_relative_uri(here, f"{PAGES}/{each}")}">{html.escape(each)}</a></li>'
                for each in names
            )
            body = f"<ul>{''.join(rows)}</ul>"
        else:
            body = _highlighted(path)
        title = f"<h1><code>{html.escape(name)}</code></h1>"
        yield here, {"title": name, "body": f"<article>{title}{body}</article>"}, "page.html"


def _highlighted(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    return f'<div class="highlight-default notranslate">{highlight(text, lexer, HtmlFormatter())}</div>'
