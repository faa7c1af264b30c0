"""What an installed s2d holds: every file of its packages that the code opens by name."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("s2d_store", "cli", "trainers", "viewer", "queries")


def test_every_file_beside_the_code_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]
    assert sorted(patterns) == sorted(PACKAGES)
    left_out = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "README.md"
        if path not in {p for text in patterns[package] for p in (ROOT / package).glob(text)}
    }
    assert left_out == set()
