"""Whether a response holds JSON that a schema allows."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.text import final_text

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?```", re.DOTALL)
_KEYS = ("json_schema", "schema")
MAX_ERRORS = 5


class JsonSchema:
    """Correct where the response's JSON is valid by the item's schema.

    The schema stands in the prompt's task or meta under `json_schema` or `schema`, as an object or
    as JSON text. The JSON is the last fenced block after `</think>`, else the <answer> tag,
    else the whole response. Needs the package jsonschema (`pip install s2d[verifiers]`); a schema
    may refer to its own parts, never to the network.
    """

    name, version = "json-schema", "1"
    needs_answer = False

    def __init__(self) -> None:
        import jsonschema  # type: ignore[import-untyped]

        self._lib = jsonschema
        self._validator = lru_cache(maxsize=256)(self._build)

    def grade(self, item: Item) -> Verdict:
        """See the class."""
        stated = next((item.fields()[key] for key in _KEYS if key in item.fields()), None)
        if stated is None:
            return Verdict(None, "error", detail="the prompt's task and meta hold no json_schema")
        schema = stated if isinstance(stated, str) else json.dumps(stated, sort_keys=True)
        validator = self._validator(schema)
        text = candidate(item.response)
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            return Verdict(0.0, "unparseable", text, f"no JSON: {error}")
        found = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.path)))
        if not found:
            return Verdict(1.0, "correct", text)
        shown = "; ".join(f"{error.json_path}: {error.message}" for error in found[:MAX_ERRORS])
        return Verdict(0.0, "wrong", text, shown, {"errors": len(found)})

    def _build(self, text: str) -> Any:
        schema = json.loads(text)
        kind = self._lib.validators.validator_for(schema, default=self._lib.Draft202012Validator)
        kind.check_schema(schema)
        # A registry of its own: without one, jsonschema would fetch remote references.
        from referencing import Registry

        return kind(schema, registry=Registry())


def candidate(response: str) -> str:
    """The part of a response that should be JSON."""
    text = response.rpartition("</think>")[2]
    fences = _FENCE.findall(text)
    return str(fences[-1]).strip() if fences else final_text(response)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
