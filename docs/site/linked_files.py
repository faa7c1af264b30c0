"""A hook of mkdocs: files of the repository that a page links to become pages of the site.

The pages of docs/ link to examples, queries and READMEs beside them. The site has to work without
the repository, so each such file is shown on a page of its own under `files/`, and so is what a
linked Markdown file links to in turn.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
FOLDER = "files"
# What `make miniature` writes, whose run takes hours: before its first one these are no links.
MADE = ("docs/miniature.svg", "examples/miniature/results")
# Browsers refuse web workers of file://; plugin `offline` takes this from a server. MIT licence.
SHIM = "https://unpkg.com/iframe-worker/shim"
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"\s*(`{3,})")
PICTURES = (".svg", ".png")
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "bash", ".sbatch": "bash", ".sql": "sql"}


def on_files(files: Files, config: Any) -> Files:
    """Add a page for every file that is linked to and lies outside docs/."""
    waiting = [
        (f"docs/{page.src_uri}", page.content_string) for page in files.documentation_pages()
    ]
    seen: set[str] = set()
    while waiting:
        source, text = waiting.pop()
        for target in _targets(source, text):
            page = _page(target)
            if page in seen or target.startswith("docs/") or not (ROOT / target).exists():
                continue
            seen.add(page)
            at = f"{FOLDER}/{page}"
            if page.endswith(PICTURES):
                files.append(File.generated(config, at, abs_src_path=str(ROOT / target)))
                continue
            content = shown(target)
            files.append(File.generated(config, at, content=content))
            waiting.append((page, content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links that leave docs/ into links to those pages."""
    own = page.file.src_uri
    is_linked = own.startswith(f"{FOLDER}/")
    source = own.removeprefix(f"{FOLDER}/") if is_linked else f"docs/{own}"
    for made in MADE:
        if not (ROOT / made).exists():
            link = re.escape(posixpath.relpath(made, posixpath.dirname(source)))
            markdown = re.sub(rf"!?\[([^\]]*)\]\({link}\)", r"\1", markdown)

    def linked(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        if "://" in link or link.startswith(("mailto:", "/")):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if not (ROOT / target).exists():
            return match[0]  # strict mode says so
        there = target.removeprefix("docs/")
        if there == target:
            there = f"{FOLDER}/{_page(target)}"
        at = posixpath.relpath(there, posixpath.dirname(own) or ".")
        return f"{before}{at}{after}"

    return "\n".join(_LINK.sub(linked, line) if prose else line for line, prose in _lines(markdown))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Let search work where a page is opened from the disk: the script that it needs lies here."""
    at = posixpath.relpath("site/iframe-worker.js", posixpath.dirname(page.file.dest_uri) or ".")
    return output.replace(SHIM, at)


def shown(target: str) -> str:
    """A file of the repository as Markdown: its own, a list of a folder, or its text."""
    path = ROOT / target
    if path.is_dir():
        readme = path / "README.md"
        listed = "\n".join(f"- `{item.name}`" for item in sorted(path.iterdir()) if _is_shown(item))
        about = readme.read_text(encoding="utf-8") if readme.is_file() else f"# {target}\n"
        return f"{about}\n\n{listed}\n"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return f"# {target}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n````\n"


def _is_shown(path: Path) -> bool:
    return not path.name.startswith((".", "__"))


def _page(target: str) -> str:
    """The page of a file under FOLDER; a folder's is that of its README."""
    if (ROOT / target).is_dir():
        return f"{target}/README.md"
    return target if target.endswith((".md", *PICTURES)) else f"{target}.md"


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Lines, and whether each is prose and not code."""
    fence = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found and (not fence or found[1] == fence):
            fence = "" if fence else found[1]
            yield line, False
        else:
            yield line, not fence and not line.startswith("    ")


def _targets(source: str, text: str) -> Iterator[str]:
    """What prose links to, as paths from the repository's root."""
    for line, prose in _lines(text):
        for _, link, _ in _LINK.findall(line) if prose else ():
            if "://" not in link and not link.startswith(("mailto:", "/")):
                yield posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
