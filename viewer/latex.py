"""Mathematics in text as MathML, made on the server: a browser draws it without any script.

A model writes what stands between the dollars, so nothing of it is trusted: what the converter
returns is parsed, and only elements and attributes of MathML that draw are written out again.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from xml.etree import ElementTree

from markupsafe import Markup, escape

from viewer.text import shown

_FORMULA = re.compile(
    r"\\\[(?P<block>.+?)\\\]|\$\$(?P<display>.+?)\$\$|\\\((?P<inline>.+?)\\\)"
    r"|(?<![\\$\w])\$(?P<dollar>[^\s$][^$\n]*?)(?<![\s\\])\$(?![\d$])"
    r"|(?P<boxed>\\boxed\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*\})*\})*\})",
    re.DOTALL,
)
_ELEMENTS = (
    *("math", "mrow", "mi", "mo", "mn", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts"),
    *("mtable", "mtr", "mtd", "mstyle", "mpadded", "menclose", "mphantom"),
)
_ATTRIBUTES = (
    *("display", "displaystyle", "scriptlevel", "mathvariant", "stretchy", "fence", "form"),
    *("separator", "lspace", "rspace", "minsize", "maxsize", "linethickness", "columnalign"),
    *("rowspacing", "columnspacing", "width", "height", "depth", "accent", "accentunder"),
    "movablelimits",
)
_MOST_FORMULAS, _LONGEST_FORMULA = 300, 2_000


def rendered(text: object, most: int | None = None) -> Markup:
    """Text as HTML, its formulas as MathML where they can be read; the others as they stand."""
    words = shown(text, most)
    parts: list[str] = []
    end = 0
    for count, found in enumerate(_FORMULA.finditer(words)):
        if count == _MOST_FORMULAS:
            break
        kind = found.lastgroup or ""
        drawn = mathml(found[kind], block=kind in ("block", "display"))
        if drawn is None:
            continue
        parts += [escape(words[end : found.start()]), drawn]
        end = found.end()
    parts.append(escape(words[end:]))
    return Markup("").join(parts)


def mathml(formula: str, *, block: bool = False) -> Markup | None:
    """A LaTeX formula as MathML; None where it cannot be read, or the extra `view` is missing."""
    if len(formula) > _LONGEST_FORMULA or find_spec("latex2mathml") is None:
        return None
    from latex2mathml.converter import convert

    # The boundary to a converter that raises whatever a formula makes it trip over.
    try:
        tree = ElementTree.fromstring(
            convert(formula, display="block" if block else "inline").replace("&nbsp;", "&#160;")
        )
        return Markup(_written(tree, formula))
    except Exception:
        return None


def _written(element: ElementTree.Element, formula: str = "") -> str:
    """An element of MathML with what draws alone; of another element, its text."""
    name = element.tag.rpartition("}")[2]
    inner = str(escape(element.text or "")) + "".join(
        _written(child) + str(escape(child.tail or "")) for child in element
    )
    if name not in _ELEMENTS:
        return inner
    given = {key: value for key, value in element.attrib.items() if key in _ATTRIBUTES}
    if name == "menclose":  # browsers draw no enclosures; style.css draws this one
        name, given = "mrow", {"class": "boxed"}
    if name == "math":
        given["alttext"] = formula
    attributes = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    return f"<{name}{attributes}>{inner}</{name}>"
