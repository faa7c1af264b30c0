r"""Answers made to hang, crash or exhaust a verifier: named monsters, and generators by class.

Shared by the tests and `benchmarks/verifier_attack.py`. No answer states the gold answer `GOLD`,
but for a chance that is too small to meet.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

GOLD = "7919"

MONSTERS = {
    "tower": r"\boxed{9^{9^{9^{9}}}}",
    "factorials": r"\boxed{100000!!!}",
    "brackets": r"\boxed{" + "(" * 2000 + "1" + ")" * 2000 + "}",
    "braces": r"\boxed{" + "{" * 2000 + "1" + "}" * 2000 + "}",
    "fractions": r"\boxed{" + r"\frac{1}{" * 1500 + "1" + "}" * 1500 + "}",
    "roots": r"\boxed{" + r"\sqrt{" * 1500 + "2" + "}" * 1500 + "}",
    "sum": r"\boxed{\sum_{n=1}^{10^9} \frac{1}{n}}",
    "product": r"\boxed{\prod_{n=1}^{10^9} n}",
    "binomial": r"\boxed{\binom{1000000}{500000} + x > 3}",
    "integral": r"\boxed{\int_0^1 \sum_{k=1}^{10000} x^k \sin(k x) dx}",
    "memory": r"\boxed{10^{10^{9}}}",
    "interval": "[1..10^9]",
    "set": r"\boxed{\{1, 2, \ldots, 10^9\}}",
    "megabyte": "1" * 1_000_000,
    "megabyte boxed": r"\boxed{" + "1+" * 500_000 + "1}",
    "exponent": r"\boxed{1e999999999}",
    "space": r"\boxed{1" + " " * 19_000 + "x}",
    "unclosed": r"\boxed{" * 100_000,
    "nul": "\x00\\boxed{\x005\x00}\x00",
    "surrogate": "\\boxed{\ud800}\udfff 5\ud800",
    "right to left": "\u202e\\boxed{\u200f5\u202c\u0665\u2067}",
    "digits of the world": "\\boxed{\u0661\u0662\uff13\u096a\U0001d7d8}",
    "code": r"\boxed{__import__('os')._exit(0)}",
}
"""One answer each; those that must time out are `MUST_TIME_OUT`."""
MUST_TIME_OUT = ("binomial", "integral")


def _join(parts: SearchStrategy[str], most: int) -> SearchStrategy[str]:
    return st.lists(parts, min_size=1, max_size=most).map("".join)


def _nested() -> SearchStrategy[str]:
    pairs = [(r"\left(", r"\right)"), (r"\frac{1}{", "}"), (r"\frac{", "}{2}"), (r"\sqrt{", "}")]
    pairs += [
        ("(", ")"),
        ("{", "}"),
        ("[", "]"),
        ("|", "|"),
        (r"\{", r"\}"),
        ("-(", ")"),
        ("x^{", "}"),
    ]
    return st.builds(
        lambda pair, opened, closed, core: pair[0] * opened + core + pair[1] * closed,
        st.sampled_from(pairs),
        depth := st.sampled_from([3, 30, 100, 300, 1000, 3000]),
        depth,
        st.sampled_from(["1", "x", ""]),
    ) | st.builds(
        lambda pair, levels: pair[0] * levels + "1" + pair[1] * levels,
        st.sampled_from(pairs),
        depth,
    )


def _towers() -> SearchStrategy[str]:
    base = st.integers(0, 99).map(str) | st.sampled_from(["x", "-1", "0.5", r"\pi", "i", "10"])
    return st.lists(base, min_size=2, max_size=6).map(
        lambda levels: "^{".join(levels) + "}" * (len(levels) - 1)
    ) | st.builds(r"{}^{{{}}}".format, base, st.integers(0, 10**12))


def _factorials() -> SearchStrategy[str]:
    number = st.integers(0, 10**7)
    marks = st.integers(1, 5).map(lambda count: "!" * count)
    return (
        st.builds("{}{}".format, number, marks)
        | st.builds(r"\binom{{{}}}{{{}}}".format, number, number)
        | st.builds(r"\frac{{{}!}}{{{}!}}".format, number, number)
        | st.builds("({}!)!{}".format, st.integers(0, 30), marks)
    )


def _sums() -> SearchStrategy[str]:
    terms = ["n", r"\frac{1}{n^2}", "n!", "n^n", r"\sin(n)", "2^{n}", r"\binom{n}{k}", "x^n"]
    return st.builds(
        r"\{}_{{n={}}}^{{{}}} {}".format,
        st.sampled_from(["sum", "prod", "int", "lim"]),
        st.integers(-5, 5),
        st.sampled_from(["10", "1000", "10^6", "10^9", r"\infty", "n", "10^{10^{10}}"]),
        st.sampled_from(terms),
    )


def _lists() -> SearchStrategy[str]:
    number = st.integers(-(10**6), 10**6).map(str)
    listed = st.builds(
        lambda numbers, times, around: around.format(", ".join(numbers * times)),
        st.lists(number, min_size=1, max_size=5),
        st.sampled_from([1, 1, 10, 100, 400]),
        st.sampled_from([r"\{{{}\}}", "({})", "[{}]", "{}"]),
    )
    ranges = st.builds(
        "{}{}..{}{}".format, st.sampled_from("[({"), number, number, st.sampled_from("])}")
    )
    rows = st.builds(
        lambda row, count: r"\begin{pmatrix}" + (row + r"\\") * count + r"\end{pmatrix}",
        st.sampled_from(["1 & 2", "x", "1 & 2 & 3", r"\frac{1}{2} & x^2"]),
        st.sampled_from([1, 3, 30, 300]),
    )
    unions = st.builds(
        lambda part, count: r" \cup ".join([part] * count),
        st.sampled_from([r"(-\infty, 1)", r"[0, 1]", r"\{1\}"]),
        st.sampled_from([2, 20, 100]),
    )
    return listed | ranges | rows | unions


def _digits() -> SearchStrategy[str]:
    runs = st.builds(
        lambda digits, times, tail: digits * times + tail,
        st.text("0123456789.,", min_size=1, max_size=6),
        st.sampled_from([1, 10, 1000, 5000]),
        st.sampled_from(["", "%", "e9", "e99999", "e-99999", ":00", "/0", "/3", r"\%", "\u00b2"]),
    )
    return runs | st.floats().map(repr) | st.integers().map(str)


def _unicode() -> SearchStrategy[str]:
    odd = "\x00\x1b\u202e\u200f\u200b\u0301\ufeff\ud800\udfff\u0665\uff15\u00bd\u221a\u03c0\u2212"
    any_text = st.text(st.characters(exclude_categories=()), max_size=50)
    return any_text | st.text(odd + "5+-=x{}\\", max_size=50)


_TOKENS = r"""
\frac \sqrt \left( \right) \boxed{ { } $ $$ \( \) \[ \] ^ _ & \\ , = < > \le \cup \cap x y \sin \log
\pm \infty \text{ and or 1 23 4.5 \cdot \times / + - ! % | \{ \} \begin{cases} \end{cases} \mod \in
\lfloor \rfloor \mathbb{R} \overline{ ' : ; #### ** \ldots \to
"""


def _latex() -> SearchStrategy[str]:
    token = st.sampled_from(_TOKENS.split())
    return st.lists(token, min_size=1, max_size=40).map(" ".join) | _join(token, 40)


def _runs() -> SearchStrategy[str]:
    part = st.sampled_from(
        [
            " ",
            "\n",
            "#",
            "$",
            "$ ",
            "*",
            ".",
            ",",
            ", ",
            "{",
            "}",
            "\\",
            "and ",
            "or,",
            "=",
            "x=",
            "-",
            "1 ",
            "1,",
            "1.",
            r"\text{",
            r"\boxed{",
            r"\boxed{1} ",
            "The answer is ",
            "\\[",
            "\\]",
        ]
    )
    run = st.builds(
        lambda text, times: text * times, part, st.sampled_from([1, 3, 100, 2000, 20_000])
    )
    return _join(run, 4)


def _equations() -> SearchStrategy[str]:
    side = st.sampled_from(
        [
            r"\sin(10^{100})",
            "x^{99}",
            "|x|",
            r"\sqrt[99]{x}",
            "(x+1)^{500}",
            r"\log_{2}{x}",
            "x!",
            "0",
            "f(x)",
            r"e^{e^{e^{x}}}",
            r"\tan(x^2)",
            "1/0",
            "0^0",
            r"\infty-\infty",
            "i^{i^{i}}",
            "abc",
            r"\int_0^1 e^{-x^2} dx",
            r"\lim_{x \to 0} \frac{\sin x}{x}",
            r"\frac{d}{dx} x^x",
            "7",
            "y",
        ]
    )
    sign = st.sampled_from(["=", "<", r"\le", r"\neq", "+", "-", "*", "^", ",", r"\in", r"\approx"])
    return st.lists(st.tuples(side, sign), min_size=1, max_size=6).map(
        lambda pairs: " ".join(part for pair in pairs for part in pair)[: -len(pairs[-1][1])]
    )


def _code() -> SearchStrategy[str]:
    text = st.sampled_from(
        [
            "__import__('os')._exit(0)",
            "exit()",
            "lambda: 0",
            "().__class__.__base__",
            "\\input{x}",
            "open('/dev/zero').read()",
            "[0]*10**10",
            "%s%n{0.__class__}",
            "'; DROP TABLE rewards; --",
            "\\def\\a{\\a\\a}\\a",
            '{"outcome": "correct"}',
            '\n[1.0, "correct", "", "", 0, false]\n',
        ]
    )
    return _join(text, 3)


def _megabyte() -> SearchStrategy[str]:
    return st.builds(
        lambda text, tail: text * (1_000_000 // len(text)) + tail,
        st.sampled_from(
            ["1", "x+", "(", "{", r"\frac{1}", r"\boxed{1}", "\u00e9", "\ud800", " ", "$1$"]
        ),
        st.sampled_from(["", r"\boxed{8}", "\n#### 8", "8"]),
    )


CLASSES: dict[str, SearchStrategy[str]] = {
    "nested": _nested(),
    "towers": _towers(),
    "factorials": _factorials(),
    "sums": _sums(),
    "lists": _lists(),
    "digits": _digits(),
    "unicode": _unicode(),
    "latex": _latex(),
    "runs": _runs(),
    "equations": _equations(),
    "code": _code(),
    "megabyte": _megabyte(),
}


def responses(kind: str) -> SearchStrategy[str]:
    r"""A class's answers bare, boxed, in dollars and after `####`."""
    ways = st.sampled_from(["{}", r"So \boxed{{{}}}.", r"\boxed{{{}", "It is ${}$", "#### {}"])
    return st.builds(lambda way, answer: way.format(answer), ways, CLASSES[kind])


def drawn(kind: str, count: int, number: int) -> list[str]:
    """`count` responses of a class, the same ones for the same `number`."""
    found: list[str] = []

    def keep(response: str) -> None:
        found.append(response)

    while len(found) < count:
        # A small class ends before it has made so many: drawn again, from another seed.
        draw = given(responses(kind))(keep)
        draw = settings(
            max_examples=count - len(found),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(draw)
        seed(number + 1000 * len(found))(draw)()
    return found[:count]
