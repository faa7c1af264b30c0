"""The pages of docs/: all of them in the site, every link leads somewhere, examples can be run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

import queries
from cli.main import app
from cli.recipes.parse import read_recipe
from queries.kinds import shipped

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Written to be copied command by command.
GUIDES = ("quickstart.md", "first-model.md", "own-sql.md", "slurm.md", "sharing.md")
# Written by `make miniature`, whose run takes hours.
MADE = {"miniature.svg", "../examples/miniature/results"}
_CELL = re.compile(r"(?<!\\)\|")
_LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def test_every_page_is_in_the_site_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = list(_pages(nav))
    assert sorted(named) == sorted(page.name for page in DOCS.glob("*.md"))
    assert named[:4] == ["index.md", "quickstart.md", "first-model.md", "cookbook.md"]


def _pages(nav: Any) -> Iterator[str]:
    for item in nav:
        for value in item.values():
            yield from [value] if isinstance(value, str) else _pages(value)


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), ROOT / "README.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = {link for link in _LINK.findall(page.read_text()) if "://" not in link} - MADE
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), ROOT / "README.md"], ids=lambda p: p.name)
def test_rows_of_a_table_have_the_cells_of_its_head(page: Path) -> None:
    width, broken = 0, []
    for line in page.read_text().splitlines():
        cells = len(_CELL.findall(line)) if line.startswith("| ") else 0
        width = (width or cells) if cells else 0
        broken += [line] if cells != width else []
    assert broken == []


def _commands(page: str) -> Iterator[str]:
    """The commands of a page; one goes on over lines by a backslash, or inside quotes."""
    begun = ""
    for line in (DOCS / page).read_text().replace("\\\n", " ").splitlines():
        if begun or line.startswith("    s2d "):
            begun = f"{begun} {line.strip()}".strip()
            if begun.count('"') % 2 == 0:
                yield begun
                begun = ""


@pytest.mark.parametrize("text", [text for page in GUIDES for text in _commands(page)])
def test_commands_of_the_guides_are_those_of_s2d(text: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(text, comments=True)[1:]
    while hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        name = words.pop(0)
        command = command.commands[name]
    command.make_context("s2d", words or ["--help"], resilient_parsing=not words)


def test_examples_of_the_guides_are_read(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```toml\n(.*?)```", (DOCS / "first-model.md").read_text(), re.DOTALL)
    file = tmp_path / "mine.toml"
    file.write_text(recipe)
    assert list(read_recipe(file).stage) == ["warmup", "bridge", "eval"]
    own = re.findall(r"```sql\n(.*?)```", (DOCS / "own-sql.md").read_text(), re.DOTALL)
    asked = [queries.parse(f"q{i}", "user", text) for i, text in enumerate(own)]
    assert [bool(query.columns and query.params) for query in asked] == [True, True]
    assert asked[1].traits.name in shipped()
