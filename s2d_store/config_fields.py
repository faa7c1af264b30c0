"""What each field of a settings dataclass means: the string that stands under it.

Command line options, keys of a recipe and the pages of docs/ are made from these.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise


def field_help(config_class: type) -> dict[str, str]:
    """Map each field of a config class, inherited ones first, to the string under it."""
    help_of: dict[str, str] = {}
    for parent in reversed(config_class.__mro__[:-1]):
        help_of |= _strings_under_fields(parent.__module__)[parent.__name__]
    return help_of


@cache
def _strings_under_fields(module: str) -> dict[str, dict[str, str]]:
    """Class -> field -> string, of a module's source; read once, since every command needs it."""
    found: dict[str, dict[str, str]] = {}
    for statement in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(statement, ast.ClassDef):
            continue
        help_of = found[statement.name] = {}
        for field, following in pairwise(statement.body):
            match field, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    help_of[name] = text
    return found
