r"""Reads one written expression, LaTeX or plain, into a tree for `exact_numbers.py`.

`\frac{364^{10}}{365^{10}}`, `2\sqrt3`, `1 1/4`, `3e8`, `0.\overline{6}`, `\sin 30^\circ`,
`(x+1)^2`. What it does not know is None: the caller then asks math-verify.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from s2d_store.verifiers.rationals import FUNCTIONS, Node, number
from s2d_store.verifiers.word_sets import word_set

MAX_CHARS = 400
MAX_DEPTH = 40
MAX_DECIMAL_EXPONENT = 20_000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+(?![a-zA-Z\d]))?"
    r"|\d+\.(?!\d))"
    r"|(?P<command>\\[a-zA-Z]+)|(?P<word>[a-zA-Z]+)|(?P<mark>\*\*|[-+*/^_(){}\[\]|!%]))"
)
_REPEATING = re.compile(
    r"(?P<whole>\d*)\.(?P<fixed>\d*)"
    r"(?:\\(?:overline|bar|dot)\s*\{?(?P<block>\d+)\}?|\((?P<round>\d+)\))"
)
_DOTS = re.compile(
    r"(?P<whole>\d*)\.(?P<fixed>\d*?)(?P<digit>\d)(?P=digit){2,}(?:\\[lc]?dots|\.{3})"
)
_SIGNED_DECIMAL = re.compile(
    r"(?P<sign>[-+]?)\s*(?:(?P<whole>\d*)\.(?P<part>\d+)|(?P<int>\d+)\.?)"
    r"(?:[eE](?P<exponent>[+-]?\d+)"
    r"|\s*(?:\\times|\\cdot|\*)\s*10\s*(?:\^|\*\*)\s*\{?(?P<power>[+-]?\s*\d+)\}?)?"
)
_NAMES = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "dbinom": "binom",
    "tbinom": "binom",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
}
_GREEK = word_set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu "
    "nu xi rho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi "
    "Omega"
)
_MULTIPLY = frozenset(("*", r"\cdot", r"\times", r"\ast"))
_DIVIDE = frozenset(("/", r"\div"))
_PLAIN_FUNCTIONS = FUNCTIONS | {"sqrt", "pi", "asin", "acos", "atan", "frac", "binom"}


@dataclass(frozen=True)
class Written:
    """An expression as it was written.

    Attributes:
        node: its tree.
        decimals: digits after the point when all of it is one decimal number, else None.
        digits: significant digits of that number.
        mark: `%` or `deg` when that stands behind all of it, else empty.
        without_unit: the number in `5 m` or `3 m/s`, whose letters may be a unit or variables.
    """

    node: Node
    decimals: int | None = None
    digits: int = 0
    mark: str = ""
    without_unit: Written | None = None


class _Unread(Exception):
    pass


def read_expression(text: str) -> Written | None:
    """The tree of an expression that is all of `text`, None when it is not one this file knows."""
    text = text.strip()
    if not text or len(text) > MAX_CHARS:
        return None
    mark = ""
    behind = re.search(r"(?:\\?%|\^\s*\{?\s*\\circ\s*\}?)$", text)
    if behind and (before := text[: behind.start()].strip()) and _one_number(before):
        mark, text = ("%" if "%" in behind[0] else "deg"), before
    decimal = _SIGNED_DECIMAL.fullmatch(text)
    if decimal:
        return _decimal(decimal, mark)
    try:
        return Written(_Reader(_with_repeating(text)).whole(), mark=mark)
    except (_Unread, RecursionError):
        return None


def _one_number(text: str) -> bool:
    r"""Whether a mark behind `text` belongs to all of it: `\frac{1}{2}\%`, not `1 + 2\%`."""
    return re.search(r"(?<=[^-+*/^({\s])\s*[-+]|\\(?:sin|cos|tan|cot|sec|csc)", text) is None


def _decimal(found: re.Match[str], mark: str) -> Written:
    whole, part = found["whole"] or found["int"] or "", found["part"] or ""
    exponent = int((found["exponent"] or found["power"] or "0").replace(" ", ""))
    node: Node
    if abs(exponent) > MAX_DECIMAL_EXPONENT:
        node = ("mul", number(_digits(whole, part)), ("pow", number(10), number(exponent)))
    else:
        node = number(_digits(whole, part) * Fraction(10) ** exponent)
    if found["sign"] == "-":
        node = number(-node[1]) if node[0] == "num" else ("neg", node)
    exact = not part or abs(exponent) > MAX_DECIMAL_EXPONENT
    significant = len((whole + part).lstrip("0"))
    return Written(node, None if exact else len(part) - exponent, significant, mark)


def _digits(whole: str, part: str) -> Fraction:
    return Fraction(int(whole + part or "0"), 10 ** len(part))


def _with_repeating(text: str) -> str:
    r"""`0.1\overline{6}` and `0.666...` as fractions, in brackets."""
    if "." not in text:
        return text

    def fraction(found: re.Match[str]) -> str:
        groups = found.groupdict()
        block = groups.get("block") or groups.get("round") or groups.get("digit") or ""
        fixed = found["fixed"]
        scale, nines = 10 ** len(fixed), 10 ** len(block) - 1
        over = int(found["whole"] + fixed or "0") * nines + int(block)
        return f"({over}/{scale * nines})"

    return _DOTS.sub(fraction, _REPEATING.sub(fraction, text))


class _Reader:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, bool]] = []
        self.at = self.depth = 0
        position = 0
        text = text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise _Unread
            kind, token = found.lastgroup or "", found[found.lastgroup or 0]
            spaced = found.start(kind) > position
            if kind == "word" and token not in _PLAIN_FUNCTIONS:
                self.tokens += [("letter", letter, spaced) for letter in token]
            elif kind == "word" or kind == "command":
                token = token.lstrip("\\")
                self.tokens.append(("command", _NAMES.get(token, token), spaced))
            else:
                self.tokens.append((kind, token, spaced))
            position = found.end()

    def whole(self) -> Node:
        node = self.sum()
        if self.at != len(self.tokens):
            raise _Unread
        return node

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at][:2] if self.at < len(self.tokens) else ("end", "")

    def take(self, token: str) -> bool:
        if self.peek()[1] == token and self.peek()[0] in ("mark", "command"):
            self.at += 1
            return True
        return False

    def need(self, token: str) -> None:
        if not self.take(token):
            raise _Unread

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Unread
        terms = [self.product()]
        while True:
            if self.take("+"):
                terms.append(self.product())
            elif self.take("-"):
                terms.append(("neg", self.product()))
            else:
                break
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def product(self) -> Node:
        node = self.signed()
        while True:
            kind, token = self.peek()
            if token in ("cdot", "times", "ast", "*") and kind in ("mark", "command"):
                self.at += 1
                node = ("mul", node, self.signed())
            elif token in ("/", "div") and kind in ("mark", "command"):
                self.at += 1
                node = ("div", node, self.signed())
            elif self.starts_factor():
                if kind == "number":  # `2 3`, `\sqrt2 3`: not a product that anybody means.
                    raise _Unread
                node = ("mul", node, self.power())
            else:
                return node

    def starts_factor(self) -> bool:
        kind, token = self.peek()
        if kind in ("number", "letter"):
            return True
        if kind == "command":
            return token not in ("cdot", "times", "ast", "div", "rfloor", "rceil", "rvert", "circ")
        return kind == "mark" and token in "({["

    def signed(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Unread
        if self.take("-"):
            node: Node = ("neg", self.signed())
        elif self.take("+"):
            node = self.signed()
        else:
            node = self.power()
        self.depth -= 1
        return node

    def power(self) -> Node:
        node = self.mixed()
        while self.take("!"):
            if self.take("!"):
                node = ("fact2", node)
                if self.peek()[1] == "!":
                    raise _Unread
            else:
                node = ("fact", node)
        while self.take("^") or self.take("**"):
            if self.peek() == ("command", "circ") or self._braced_circle():
                self.at += 1
                node = ("mul", node, ("div", ("const", "pi"), number(180)))
                continue
            node = ("pow", node, self.exponent())
        return node

    def _braced_circle(self) -> bool:
        following = [token[1] for token in self.tokens[self.at : self.at + 3]]
        if following == ["{", "circ", "}"]:
            self.at += 2
            return True
        return False

    def exponent(self) -> Node:
        if self.take("{"):
            node = self.sum()
            self.need("}")
            return node
        if self.take("-"):
            return ("neg", self.exponent())
        if self.peek()[0] == "number":
            return self.one_number()
        node = self.atom()
        return ("pow", node, self.exponent()) if self.take("^") else node

    def mixed(self) -> Node:
        r"""A number, with the fraction behind it if it is a mixed one: `1 1/4`, `3\frac{1}{2}`."""
        if self.peek()[0] != "number" or "." in self.peek()[1]:
            return self.atom()
        whole = self.one_number()
        following = self.tokens[self.at : self.at + 3]
        kinds = [token[0] for token in following]
        if self.peek() == ("command", "frac"):
            begun = self.at
            part = self.atom()
            if _is_plain_fraction(part):
                return ("add", whole, part)
            self.at = begun
            return whole
        if (
            kinds == ["number", "mark", "number"]
            and following[1][1] == "/"
            and following[0][2]
            and all(following[at][1].isdigit() for at in (0, 2))
        ):
            self.at += 3
            under = int(following[2][1])
            if under == 0 or int(following[0][1]) >= under:
                raise _Unread
            return ("add", whole, number(Fraction(int(following[0][1]), under)))
        return whole

    def one_number(self) -> Node:
        text = self.tokens[self.at][1]
        self.at += 1
        found = _SIGNED_DECIMAL.fullmatch(text)
        if found is None:
            raise _Unread
        return _decimal(found, "").node

    def atom(self) -> Node:
        kind, token = self.peek()
        if kind == "number":
            return self.one_number()
        self.at += 1
        if kind == "letter":
            return self.subscripted(token)
        if kind == "command":
            return self.command(token)
        if kind == "mark" and token in ("(", "{", "["):
            node = self.sum()
            self.need({"(": ")", "{": "}", "[": "]"}[token])
            return node
        if kind == "mark" and token == "|":
            node = self.sum()
            self.need("|")
            return ("fn", "abs", node)
        raise _Unread

    def subscripted(self, name: str) -> Node:
        if self.take("_"):
            if self.take("{"):
                index = ""
                while not self.take("}"):
                    kind, token = self.peek()
                    if kind not in ("number", "letter"):
                        raise _Unread
                    index += token
                    self.at += 1
            else:
                kind, index = self.peek()
                if kind not in ("number", "letter"):
                    raise _Unread
                self.at += 1
            return ("sym", f"{name}_{index}")
        if name in ("e", "i"):
            return ("const", name)
        if self.peek() == ("mark", "(") and name in "fghFGHP":
            raise _Unread  # f(x) is a function's value.
        return ("sym", name)

    def argument(self) -> Node:
        r"""What follows `\frac` or `\sqrt`: a group, or one digit, letter or command."""
        if self.take("{"):
            node = self.sum()
            self.need("}")
            return node
        kind, token = self.peek()
        if kind == "number" and len(token) > 1:
            if not token.isdigit():
                raise _Unread
            self.tokens[self.at] = (kind, token[1:], False)
            return number(int(token[0]))
        return self.atom()

    def command(self, name: str) -> Node:
        if name == "frac":
            return ("div", self.argument(), self.argument())
        if name == "binom":
            return ("binom", self.argument(), self.argument())
        if name == "sqrt":
            degree = number(2)
            if self.take("["):
                degree = self.sum()
                self.need("]")
            if self.peek()[0] == "number":
                return ("root", self.one_number(), degree)
            return ("root", self.argument(), degree)
        if name == "pi":
            return ("const", "pi")
        if name in _GREEK:
            return self.subscripted(name)
        for opening, closing, function in (
            ("lfloor", "rfloor", "floor"),
            ("lceil", "rceil", "ceil"),
            ("lvert", "rvert", "abs"),
        ):
            if name == opening:
                node = self.sum()
                self.need(closing)
                return ("fn", function, node)
        if name == "lg":
            return ("log", number(10), self.function("ln")[2])
        if name in FUNCTIONS:
            return self.function(name)
        raise _Unread

    def function(self, name: str) -> Node:
        base = power = None
        if self.take("_"):
            base = self.argument()
        if self.take("^"):
            power = self.exponent()
            if power == ("neg", number(1)):
                raise _Unread  # An inverse function, or a reciprocal.
        grouped = self.peek()[1] in ("(", "{", "|")
        argument = self.power() if grouped else self.run()
        node: Node
        if name == "log" and base is not None:
            node = ("log", base, argument)
        elif base is not None:
            raise _Unread
        elif name == "log":
            raise _Unread  # To the base 10 or e: math-verify decides.
        else:
            node = ("fn", name, argument)
        return node if power is None else ("pow", node, power)

    def run(self) -> Node:
        r"""The argument of a function without brackets: `\sin 2x`, not the 3 of `\sin x + 3`."""
        factors = [self.signed()]
        while self.starts_factor() and self.peek()[1] not in FUNCTIONS | {"("}:
            if self.peek()[0] == "number":
                raise _Unread
            factors.append(self.power())
        if self.take("/"):
            factors = [("div", ("mul", *factors), self.power())]
        return factors[0] if len(factors) == 1 else ("mul", *factors)


def _is_plain_fraction(node: Node) -> bool:
    r"""Whether a node is a fraction of two whole numbers, as in `3\frac{1}{2}`."""
    return node[0] == "div" and all(
        part[0] == "num" and part[1].denominator == 1 and part[1] >= 0 for part in node[1:]
    )
