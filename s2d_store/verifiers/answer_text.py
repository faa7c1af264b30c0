r"""The text of an answer in one plain form: characters, LaTeX wrappers, spaces, thousands.

`\textcolor{red}{\frac12}` becomes `-\frac{1}{2}`. What the text means is decided in `readings.py`.
"""

from __future__ import annotations

import re
import unicodedata

MAX_CHARS = 1_000
SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "lakh": 10**5,
    "lakhs": 10**5,
    "crore": 10**7,
    "million": 10**6,
    "millions": 10**6,
    "mn": 10**6,
    "billion": 10**9,
    "billions": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
    "trillions": 10**12,
    "quadrillion": 10**15,
    "dozen": 12,
    "dozens": 12,
    "wan": 10**4,
    "yi": 10**8,
}

_LATEX = {
    "\u00d7": r"\times ",
    "\u22c5": r"\cdot ",
    "\u00b7": r"\cdot ",
    "\u2219": r"\cdot ",
    "\u00f7": r"\div ",
    "\u2248": r"\approx ",
    "\u2245": r"\approx ",
    "\u2264": r"\le ",
    "\u2a7d": r"\le ",
    "\u2265": r"\ge ",
    "\u2a7e": r"\ge ",
    "\u2260": r"\neq ",
    "\u00b1": r"\pm ",
    "\u2213": r"\mp ",
    "\u221e": r"\infty ",
    "\u222a": r"\cup ",
    "\u2229": r"\cap ",
    "\u2208": r"\in ",
    "\u2205": r"\emptyset ",
    "\u2300": r"\emptyset ",
    "\u2026": r"\ldots ",
    "\u22ef": r"\ldots ",
    "\u00b0": r"^\circ ",
    "\u02da": r"^\circ ",
    "\u00ba": r"^\circ ",
    "\u2218": r"\circ ",
    "\u211d": r"\mathbb{R}",
    "\u2124": r"\mathbb{Z}",
    "\u2115": r"\mathbb{N}",
    "\u211a": r"\mathbb{Q}",
    "\u2102": r"\mathbb{C}",
    "\u27e8": r"\langle ",
    "\u27e9": r"\rangle ",
    "\u2329": r"\langle ",
    "\u232a": r"\rangle ",
    "\u230a": r"\lfloor ",
    "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ",
    "\u2309": r"\rceil ",
    "\u2713": "",
    "\u2714": "",
    "\u2705": "",
}
_PLAIN = {
    **dict.fromkeys("\u2212\u2013\u2014\u2010\u2011\u2012\u2043\ufe63\uff0d\u2796", "-"),
    **dict.fromkeys("\u2018\u2019\u201a\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u2033", '"'),
    **dict.fromkeys("\u2044\u2215", "/"),
    **dict.fromkeys("\u2217\u2731", "*"),
    **dict.fromkeys("\u3001", ","),
    **dict.fromkeys("\u3002", "."),
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\ufeff\u00ad\ufe0f", ""),
    **dict.fromkeys("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", ""),
    **dict.fromkeys(
        "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "
    ),
    "\u2795": "+",
    "\u2236": ":",
}
_GREEK = {
    "\u03b1": "alpha", "\u03b2": "beta", "\u03b3": "gamma", "\u03b4": "delta", "\u03b5": "epsilon",
    "\u03b8": "theta", "\u03bb": "lambda", "\u03bc": "mu", "\u03c0": "pi", "\u03c1": "rho",
    "\u03c3": "sigma", "\u03c4": "tau", "\u03c6": "phi", "\u03c9": "omega", "\u0394": "Delta",
    "\u03a9": "Omega", "\u03a3": "Sigma", "\U0001d70b": "pi", "\u03d5": "phi",
}  # fmt: skip
_RAISED = dict(
    zip(
        "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b\u207a\u207f\u02e3\u2071",
        "0123456789-+nxi",
        strict=True,
    )
)
_LOWERED = dict(
    zip(
        "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089\u2099",
        "0123456789n",
        strict=True,
    )
)
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")
_ROOT = re.compile(
    r"([\u221a\u221b\u221c])\s?(?:\(([^()]{1,60})\)|\{([^{}]{1,60})\}|(\d+(?:\.\d+)?|[a-zA-Z]|\\pi))?"
)
_DEGREES = {"\u221a": "", "\u221b": "[3]", "\u221c": "[4]"}
_OVERLINED = re.compile(r"(?:\d[\u0304\u0305])+")
_CJK_SCALE = {
    "\u767e": "hundred",
    "\u5343": "thousand",
    **dict.fromkeys("\u4e07\u842c\ub9cc", "wan"),
    **dict.fromkeys("\u4ebf\u5104\uc5b5", "yi"),
}
CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Chinese, Japanese and Korean letters, for a class of characters in a pattern."""
# A number starts and ends where CJK words do, which have no spaces: `答案是72。`.
_BESIDE_CJK = re.compile(rf"(?<=[{CJK}])(?<!不是)(?<!不等于)(?=[-+.]?\d)|(?<=\d)(?=[{CJK}])")
_CJK_SCALED = re.compile(rf"(?<=\d)\s?([{''.join(_CJK_SCALE)}])")
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e\u2189]")


def plain_characters(text: str, latex: bool = True) -> str:
    r"""Unicode marks, digits, roots, fractions and powers as ASCII and LaTeX.

    Args:
        text: any text.
        latex: whether signs become LaTeX commands; else only those with an ASCII twin change.
    """
    if text.isascii():
        return text
    if _OVERLINED.search(text):
        text = _OVERLINED.sub(
            lambda run: rf"\overline{{{''.join(filter(str.isdigit, run[0]))}}}", text
        )
    pieces = []
    for character in text:
        if character < "\x80":
            pieces.append(character)
        elif character in _PLAIN:
            pieces.append(_PLAIN[character])
        elif latex and character in _LATEX:
            pieces.append(_LATEX[character])
        elif latex and character in _GREEK:
            pieces.append(rf"\{_GREEK[character]} ")
        else:
            pieces.append(_one_character(character))
    text = "".join(pieces)
    if text.isascii():
        return text
    text = _CJK_SCALED.sub(lambda found: f" {_CJK_SCALE[found[1]]} ", text)
    text = _BESIDE_CJK.sub(" ", text)
    text = _VULGAR.sub(_fraction if latex else _plain_fraction, text)
    text = _RAISED_RUN.sub(lambda run: "^{" + "".join(map(_RAISED.get, run[0])) + "}", text)  # type: ignore[arg-type]
    text = _LOWERED_RUN.sub(lambda run: "_{" + "".join(map(_LOWERED.get, run[0])) + "}", text)  # type: ignore[arg-type]
    return _ROOT.sub(_root, text) if latex else text


def _one_character(character: str) -> str:
    """A full-width or mathematical letter, digit or mark as ASCII; others unchanged."""
    digit = unicodedata.digit(character, None)
    if digit is not None and unicodedata.category(character) == "Nd":
        return str(digit)
    if "\uff01" <= character <= "\uff5e" or "\U0001d400" <= character <= "\U0001d7ff":
        return unicodedata.normalize("NFKC", character)
    return character


def _fraction(found: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", found[0]).partition("\u2044")
    return rf"\frac{{{over}}}{{{under}}}"


def _plain_fraction(found: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", found[0]).partition("\u2044")
    return f" {over}/{under}"


def _root(found: re.Match[str]) -> str:
    inner = found[2] or found[3] or found[4]
    command = rf"\sqrt{_DEGREES[found[1]]}"
    return command if inner is None else f"{command}{{{inner}}}"


# --- LaTeX --------------------------------------------------------------------------------------

_SPACES = re.compile(
    r"\\(?:left|right)\s*\.|\\[,;:!>]|\\(?:quad|qquad|enspace|thinspace|hfill|displaystyle|textstyle|left|right"
    r"|[bB]igg?[lr]?|limits|nolimits|bf|it|rm|large|Large|small|normalsize|boldmath)(?![a-zA-Z])"
    r"|\\ |~|\\hspace\*?\{[^{}]*\}|\\[hv]?phantom\{[^{}]*\}"
)
_DIGIT_SPACE = re.compile(r"(?<=\d)(?:\\[,!;:]|\{,\}|\\!,\\!|,\\!|\{\s\})+(?=\d{3})")
_WRAPPER = re.compile(
    r"\\(?:text|mathrm|mathbf|mathit|mathsf|mathtt|mathnormal|textbf|textit|textrm|textsf|texttt"
    r"|textnormal|emph|mbox|hbox|boldsymbol|bm|operatorname\*?|underline|boxed|fbox|framebox"
    r"|ensuremath|mathop|mathord|uline|underbar|tcbhighmath|Aboxed|bold|pmb|term|cancelto)\s*\{"
)
_COLOURED = re.compile(
    r"\\(?:textcolor|colorbox|fcolorbox\{[^{}]*\})\s*\{[^{}]*\}\s*\{|\\color\s*\{[^{}]*\}"
)
_DROPPED = re.compile(
    r"\\(?:checkmark|blacksquare|square|qed|Box|therefore|star|bigstar|label\{[^{}]*\}|tag\{[^{}]*\}|nonumber|underbrace|rule\{[^{}]*\}\{[^{}]*\})(?![a-zA-Z])"
)
_LED = re.compile(
    r"^(?:\s|=(?!=)|:|\\(?:approx|simeq|sim|cong|implies|Rightarrow|Longrightarrow|rightarrow|to|boldsymbol|equiv)(?![a-zA-Z]))+"
)
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_KEEP_TEXT = {"text", "textbf", "textit", "mathrm", "mbox", "operatorname", "textrm"}
_TIMES = re.compile(r"(?<=\d)\s*[xX]\s*10\s*\^")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_ORDINAL = re.compile(r"(?<=\d)\s*\^\s*\{\s*(?:\\(?:text|mathrm)\s*\{)?\s*(st|nd|rd|th)\s*\}{1,2}")
_GROUPED = re.compile(r"(?<![\w.,])\d{1,3}(?:(?:\.\d{3}){2,}|(?:_\d{3})+)(?![\w.,]\d|[\w{])")
_NAMED = {
    r"\colon": ":",
    r"\varnothing": r"\emptyset",
    r"\dfrac": r"\frac",
    r"\nicefrac": r"\frac",
    r"\sfrac": r"\frac",
    r"\xfrac": r"\frac",
    r"\tfrac": r"\frac",
    r"\cfrac": r"\frac",
    r"\leq": r"\le",
    r"\geq": r"\ge",
    r"\leqslant": r"\le",
    r"\geqslant": r"\ge",
    r"\ne": r"\neq",
    r"\dots": r"\ldots",
    r"\cdots": r"\ldots",
    r"\lbrace": r"\{",
    r"\rbrace": r"\}",
    r"\lbrack": "[",
    r"\rbrack": "]",
    r"\degree": r"^\circ",
    r"\textdegree": r"^\circ",
    r"\degrees": r"^\circ",
    r"\textdollar": r"\$",
    r"\dollar": r"\$",
    r"\percent": r"\%",
    r"\langle": "(",
    r"\rangle": ")",
    r"\mathbb R": r"\mathbb{R}",
    r"\R": r"\mathbb{R}",
    r"\lt": "<",
    r"\gt": ">",
    r"\land": r"\text{ and }",
    r"\lor": r"\text{ or }",
    r"\imath": "i",
}
_NAME = re.compile(r"\\(?:mathbb R|[a-zA-Z]+)")
_EMPTY_SET = re.compile(r"^\\\{\s*\\\}$|^\{\s*\}$")
_ENVIRONMENT = re.compile(
    r"\\begin\{(aligned|align|split|gathered|gather|equation|displaymath)(\*?)\}"
    r"((?:(?!\\\\|&).)*)\\end\{\1\2\}",
    re.DOTALL,
)
_OUTER_BRACES = re.compile(r"\{([^{}]*)\}")


def normal_latex(text: str) -> str:
    r"""An answer's LaTeX without what only changes its looks; `\text{...}` becomes its content."""
    text = plain_characters(text).strip()
    text = _DIGIT_SPACE.sub("", text).replace("...", r"\ldots ")
    text = _GROUPED.sub(lambda found: re.sub("[._]", "", found[0]), text)
    text = _TIMES.sub(r" \\times 10^", text)
    text = _without_delimiters(text)
    bold = _BOLD.fullmatch(text)
    text = bold[1] if bold else text
    text = _ORDINAL.sub(r"\1", text.replace("{:}", ":"))
    if "\\" in text or "~" in text:
        text = _ENVIRONMENT.sub(r"\3", text)
        text = _SPACES.sub(" ", text)
        text = _unwrapped(text)
        text = _DROPPED.sub(" ", text)
        text = _NAME.sub(lambda name: _NAMED.get(name[0], name[0]), text)
    text = _LED.sub("", text.strip())
    text = _without_delimiters(text.strip().rstrip(".,;").rstrip("\\").strip())
    if _EMPTY_SET.match(text):
        return r"\emptyset"
    outer = _OUTER_BRACES.fullmatch(text)
    return outer[1].strip() if outer else text


def _without_delimiters(text: str) -> str:
    r"""Without one pair of `$`, `\(`, `\[` around all of it, and a single `$` at the end."""
    for opening, closing in _DELIMITERS:
        if (
            len(text) > len(opening) + len(closing)
            and text.startswith(opening)
            and text.endswith(closing)
            and not text.endswith("\\" + closing)
            and opening not in text[len(opening) : -len(closing)]
        ):
            return text[len(opening) : -len(closing)].strip()
    return text


def _unwrapped(text: str, patterns: tuple[re.Pattern[str], ...] = ()) -> str:
    r"""Content in place of `\text{content}` and of colours; spaces keep words apart."""
    for pattern in patterns or (_COLOURED, _WRAPPER):
        while found := pattern.search(text):
            if not found[0].endswith("{"):
                text = text[: found.start()] + " " + text[found.end() :]
                continue
            end = _closing(text, found.end())
            if end is None:
                return text
            text = f"{text[: found.start()]} {text[found.end() : end].strip()} {text[end + 1 :]}"
    return text


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for at in range(start, len(text)):
        if text[at] in "{}" and (at == 0 or text[at - 1] != "\\"):
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return at
    return None


_TURNED = {">": "<", r"\ge": r"\le", r"\geq": r"\le", r"\geqslant": r"\le"}
_FALLING = re.compile(
    r"([^<>=,]+?)\s*(>|\\ge(?:q|qslant)?(?![a-zA-Z]))\s*([^<>=,\\]+?)\s*"
    r"(>|\\ge(?:q|qslant)?(?![a-zA-Z]))\s*([^<>=,]+)"
)
_SET_BUILDER = re.compile(
    r"\\\{\s*([a-z])\s*(?:\\in\s*\\mathbb\s*\{R\}\s*)?(?:\\mid|\||:)\s*"
    r"((?=[^|:{}]*(?<![a-zA-Z])\1(?![a-zA-Z]))[^|:{}]*(?:[<>]|\\[lg]e|\\neq)[^|:{}]*)\\\}"
)


def without_set_builder(text: str) -> str:
    r"""The condition alone of `\{x \mid x > 1\}`; anything else unchanged."""
    found = _SET_BUILDER.fullmatch(text)
    return found[2].strip() if found else text


_APART = re.compile(r"\\(?:framebox|fbox|boxed|ensuremath|uline|underline)\s*\{")


def light_latex(text: str) -> str:
    r"""An answer's LaTeX for math-verify: characters, colours and boxes; `\text{...}` is kept."""
    text = _without_delimiters(plain_characters(text).strip())
    text = _DROPPED.sub(" ", text)
    for pattern in (_COLOURED, _APART):
        text = _unwrapped(text[:20_000], (pattern,)) if len(text) <= MAX_CHARS else text
    for name, plain in ((r"\varnothing", r"\emptyset"), (r"\langle", "("), (r"\rangle", ")")):
        text = text.replace(name, plain)
    text = _LED.sub("", text)
    if len(text) > MAX_CHARS:
        return text
    text = without_set_builder(text)
    falling = _FALLING.fullmatch(text)
    if not falling:
        return text
    above, first, middle, second, below = falling.groups()
    return f"{below} {_TURNED[second]} {middle} {_TURNED[first]} {above}"


_KEY_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)|\\ ")


def key(text: str) -> str:
    """A form in which two texts that differ in spaces only are the same."""
    return _KEY_SPACE.sub("", text)
