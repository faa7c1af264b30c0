"""JSON as it may enter the store: finite numbers, whole Unicode, bounded depth and size."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from s2d_store.errors import InputError

MAX_DEPTH = 64
# Python itself refuses to read or print longer integers (sys.set_int_max_str_digits).
MAX_DIGITS = 4300


class WrittenFloat(float):
    """A float that remembers how it was written, so that a gold answer keeps every digit."""

    written: str

    def __new__(cls, written: str) -> WrittenFloat:
        """Read a JSON number with a point or an exponent.

        Raises:
            ValueError: it overflows, underflows or has thousands of digits.
        """
        number = super().__new__(cls, written)
        lost = math.isinf(number) or (not number and Decimal(written) != 0)
        if lost or len(written) > MAX_DIGITS:
            raise ValueError(f"the number {written[:40]} is beyond a double's range")
        number.written = written
        return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def parse(where: str, line: bytes) -> Any:
    """One JSON document.

    Raises:
        InputError: names `where`: not UTF-8, not JSON, NaN or Infinity, a number that no double
            and no integer of 4,300 digits holds, nested too deeply, or half a surrogate pair.
    """
    try:
        value = json.loads(line.decode(), parse_float=WrittenFloat, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8", str(error)) from error
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON", str(error)) from error
    except ValueError as error:
        reason = str(error)
        if reason.startswith("Exceeds the limit"):
            reason = f"an integer has more than {MAX_DIGITS:,} digits"
        raise InputError(f"{where} holds a number that cannot be stored", reason) from error
    except RecursionError as error:
        raise _too_deep(where) from error
    check(where, value)
    return value


def check(where: str, value: Any) -> None:
    """Refuse text with half a surrogate pair, and nesting deeper than MAX_DEPTH.

    Raises:
        InputError: names `where`.
    """
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep(where)
        if isinstance(item, str):
            _check_text(where, item)
        elif isinstance(item, Mapping):
            waiting += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list | tuple):
            waiting += [(part, depth + 1) for part in item]


def dump(where: str, value: Any) -> str:
    """A value as JSON text; dates and decimals as text, bytes as base64, a float's NaN as null.

    Raises:
        InputError: names `where`: an infinite number, or an object that JSON has no form for.
    """

    def plain(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {str(key): plain(part) for key, part in item.items()}
        if isinstance(item, list | tuple):
            return [plain(part) for part in item]
        if isinstance(item, float) and math.isnan(item):
            return None
        if isinstance(item, bytes):
            return base64.b64encode(item).decode()
        if isinstance(item, date | time | timedelta | Decimal | UUID):
            return str(item)
        return item

    try:
        return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} holds what JSON cannot", str(error)) from error


def _check_text(where: str, text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where} holds half of a surrogate pair",
            f"character {error.start} of a text is {text[error.start]!a}, which is no character",
            "write the text again with a JSON writer that knows Unicode",
        ) from error


def _too_deep(where: str) -> InputError:
    return InputError(
        f"{where} is nested too deeply", f"more than {MAX_DEPTH} lists or objects in each other"
    )
