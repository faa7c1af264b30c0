"""Settings as an identity: what a run was done with, and whether that is what is asked for now.

A field that is added later, with a default that leaves things as they were, changes no identity:
what was stored before the field existed counts as stored with its default, and defaults enter no
id. A default itself is therefore never changed in place: stored runs would be refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

# What a run's record keeps beside its settings, so that its command can be repeated.
INVOCATION = "asked"


def defaults(config_class: type) -> dict[str, Any]:
    """The fields of a dataclass that have a default, JSON-compatible."""
    assert is_dataclass(config_class)
    found = {}
    for field in fields(config_class):
        if field.default is not MISSING:
            found[field.name] = field.default
        elif field.default_factory is not MISSING:
            found[field.name] = field.default_factory()
    return {name: json_value(value) for name, value in found.items() if _is_plain(value)}


def non_default(values: Mapping[str, Any], unless: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not at their default: what an id is made of."""
    return {k: v for k, v in values.items() if k not in unless or json_value(v) != unless[k]}


def diff_settings(
    stored: Mapping[str, Any], now: Mapping[str, Any], unless: Mapping[str, Any] | None = None
) -> dict[str, tuple[Any, Any]]:
    """Settings whose stored value is another than today's, as (stored, now), in order of name.

    Args:
        stored: as it was read from JSON.
        now: what is asked for.
        unless: defaults; they stand in for a value that is missing. Nested as the settings are.
    """
    now, unless = json_value(now), unless or {}
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted((stored.keys() | now.keys()) - {INVOCATION}):
        default = unless.get(name)
        before, after = stored.get(name, default), now.get(name, default)
        if isinstance(before, dict) and isinstance(after, dict):
            below = default if isinstance(default, dict) else {}
            nested = diff_settings(before, after, below)
            found |= {f"{name}.{key}": pair for key, pair in nested.items()}
        elif before != after:
            found[name] = (before, after)
    return found


def json_value(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _is_plain(value: Any) -> bool:
    return not is_dataclass(value)
