"""Tokens as HTML, shaded. A response has thousands, so they are joined here, not in a template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from viewer.text import shown

_LONGEST = 400
# What a line break looks like inside a token, so that its shade can be seen.
_BREAK = Markup('<i class="br">\u21b5</i>\n')


def shade(level: int) -> str:
    """The class of a level -9 .. 9: h1..h9 warm, c1..c9 cool, nothing for 0."""
    return "" if level == 0 else f"{'h' if level > 0 else 'c'}{abs(level)}"


def token_spans(
    texts: Sequence[str | None],
    ids: Sequence[int],
    levels: Sequence[int],
    marked: int | None = None,
    heads: Mapping[int, str] | None = None,
) -> Markup:
    """One span per token, in order.

    Args:
        texts: decoded tokens; None for one that the vocabulary lacks, which is shown by its id.
        ids: token ids.
        levels: shades, see `viewer.signals.level`.
        marked: the position whose top-k is shown.
        heads: words that stand before a position, as the role of a turn.
    """
    parts = []
    for i, (text, token_id, level) in enumerate(zip(texts, ids, levels, strict=True)):
        if heads and i in heads:
            parts.append(f'<b class="turn">{escape(shown(heads[i]))}</b>')
        words = f"\u27e8{token_id}\u27e9" if text is None else shown(text, _LONGEST)
        inner = str(escape(words)).replace("\n", _BREAK)
        kind = f"{shade(level)}{' at' if i == marked else ''}".strip()
        current = ' aria-current="true"' if i == marked else ""
        parts.append(
            f'<span class="{kind}"{current}>{inner}</span>' if kind else f"<span>{inner}</span>"
        )
    return Markup("".join(parts))


def parted(texts: Sequence[str | None], at: int) -> Markup:
    """A response of which the token at `at` is marked: where it parts from another; -1 for none."""
    words = [shown("\ufffd" if text is None else text, _LONGEST) for text in texts]
    if not 0 <= at <= len(words):
        return escape("".join(words))
    here = words[at] if at < len(words) else "(ends here)"
    return Markup(
        f'{escape("".join(words[:at]))}<span class="parts">{escape(here)}</span>'
        f'<span class="after">{escape("".join(words[at + 1 :]))}</span>'
    )
