"""Text of models, users and files as HTML shows it: figures, moments, and what must not hide."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

# Escape sequences, and marks that turn the direction of what follows, are shown instead of obeyed.
_TURNS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {
    **{i: chr(0x2400 + i) for i in range(32) if chr(i) not in "\t\n"},
    0x7F: "\u2421",
    **{i: f"\u27e8{i:02X}\u27e9" for i in range(0x80, 0xA0)},
    **{i: f"\u27e8U+{i:04X}\u27e9" for i in _TURNS},
}
_LARGE = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


def shown(text: object, most: int | None = None) -> str:
    """Text with control characters and turns of direction made visible; at most `most` characters.

    Example:
        >>> shown(f"a{chr(27)}[31mb")
        'a␛[31mb'
        >>> shown("abcdef", 3)
        'abc… (6 characters)'
    """
    whole = "" if text is None else str(text)
    part = whole if most is None else whole[:most]
    cut = f"\u2026 ({len(whole):,} characters)" if len(part) < len(whole) else ""
    return part.translate(_SHOWN) + cut


def one_line(text: object, most: int = 200) -> str:
    """Text for a cell of a table: white space folded, cut after `most` characters."""
    whole = "" if text is None else str(text)
    folded = " ".join(whole[: 4 * most].split())
    return shown(folded[:most]) + ("\u2026" if len(folded) > most or len(whole) > 4 * most else "")


def number(value: Any) -> str:
    """A number as a person reads it: separators, four digits, large ones by their power.

    Example:
        >>> number(12345), number(0.123456), number(2.8e11)
        ('12,345', '0.1235', '280 G')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\u2013"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < 10_000_000:
        return f"{value:,}"
    for size, unit in _LARGE:
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    if value and abs(value) < 1e-4:
        return f"{value:.2e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def p_value(value: float | None) -> str:
    """A p value; one below 0.001 is said to be that, since none is zero.

    Example:
        >>> p_value(0.0), p_value(0.02276)
        ('< 0.001', '0.0228')
    """
    if value is None or math.isnan(value):
        return "\u2013"
    return "< 0.001" if value < 0.001 else f"{value:.3g}"


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return number(value) if value is None else f"{'+' if value > 0 else ''}{number(value)}"


def percent(value: float | None) -> str:
    """A share in percent; one that rounding would hide is said to be small."""
    if value is None:
        return "\u2013"
    return "<0.1%" if 0 < value < 0.0005 else f"{100 * value:.1f}%"


def duration(seconds: float | None) -> str:
    """A span of time.

    Example:
        >>> duration(5.2), duration(64), duration(7260)
        ('5 s', '1.1 min', '2.0 h')
    """
    if seconds is None:
        return "\u2013"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def moment(value: datetime | None) -> str:
    """A time of the store, which is UTC."""
    return "\u2013" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"


def cell(value: Any, most: int = 200) -> str:
    """Any value of a query's result on one line."""
    if value is None or isinstance(value, bool | int | float):
        return number(value)
    return moment(value) if isinstance(value, datetime) else one_line(value, most)


def plain(value: Any) -> Any:
    """A value as JSON holds it: text for moments and bytes, null for numbers that are none."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else str(value)
