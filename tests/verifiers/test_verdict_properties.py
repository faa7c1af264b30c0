"""Properties of verdicts: neighbours are never equal, rationals are equal iff they are equal."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.verdict_forms import FORMS
from s2d_store.verifiers.agreement import same_answer
from s2d_store.verifiers.exact_numbers import same_value
from s2d_store.verifiers.expressions import read_expression
from s2d_store.verifiers.math import MathVerifier
from s2d_store.verifiers.readings import read

WHOLE = st.integers(0, 10**30) | st.integers(0, 200)
MODEST = settings(max_examples=60, deadline=None, database=None, derandomize=True)


@pytest.fixture(scope="module")
def math() -> MathVerifier:
    return MathVerifier()


def written_whole(value: int) -> list[str]:
    """A whole number in exact forms that all say the same."""
    sign = "-" if value < 0 else ""
    size = abs(value)
    return [
        f"{value}",
        f"{value:,}",
        f"{value}.0",
        rf"{sign}\frac{{{3 * size}}}{{3}}",
        rf"{value + 7} - 7",
        rf"2 \cdot {value} - ({value})",
        rf"\sqrt{{{value * value}}}" if value >= 0 else rf"-\sqrt{{{value * value}}}",
        rf"{value} + 10^{{-40}} - 10^{{-40}}",
        rf"\frac{{2^{{300}} \cdot {value}}}{{2^{{300}}}}".replace("-", "(-1)\\cdot "),
        rf"\text{{{value}}}",
    ]


def written_fraction(value: Fraction) -> list[str]:
    over, under = value.numerator, value.denominator
    return [
        rf"\frac{{{over}}}{{{under}}}",
        f"{over}/{under}",
        rf"\dfrac{{{5 * over}}}{{{5 * under}}}",
        rf"{over} \cdot {under}^{{-1}}" if over >= 0 else rf"-{-over} \cdot {under}^{{-1}}",
        rf"1 + \frac{{{over - under}}}{{{under}}}",
    ]


@MODEST
@given(WHOLE, st.sampled_from(FORMS))
def test_the_next_number_is_never_taken(math: MathVerifier, value: int, form: str) -> None:
    assume(value != 1)  # Some forms hold a 1 that is no answer.
    gold = str(value)
    assert math.verify(form.replace("N", gold), gold).outcome == "correct"
    assert math.verify(form.replace("N", str(value + 1)), gold).outcome in ("wrong", "unparseable")


@MODEST
@given(st.integers(-(10**40), 10**40) | st.integers(-30, 30), st.integers(1, 3))
def test_exact_forms_of_whole_numbers(value: int, apart: int) -> None:
    gold = read(str(value))
    for form in written_whole(value):
        assert same_answer(gold, read(form)) is True, form
    for form in written_whole(value + apart):
        assert same_answer(gold, read(form)) is False, form


@MODEST
@given(
    st.fractions(max_denominator=10**12),
    st.fractions(max_denominator=10**12),
)
def test_fractions_are_equal_iff_they_are(left: Fraction, right: Fraction) -> None:
    for form in written_fraction(right):
        assert same_answer(read(written_fraction(left)[0]), read(form)) is (left == right)
    for form in written_fraction(left):
        assert same_answer(read(written_fraction(left)[0]), read(form)) is True


@MODEST
@given(st.integers(2, 400), st.integers(2, 400), st.integers(1, 300), st.integers(1, 300))
def test_powers_are_equal_iff_they_are(a: int, b: int, m: int, n: int) -> None:
    left, right = (
        read_expression(f"{a}^{{{m}}}"),
        read_expression(rf"\frac{{{b}^{{{n + 1}}}}}{{{b}}}"),
    )
    assert left is not None and right is not None
    assert same_value(left.node, right.node) is (a**m == b**n)


@MODEST
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(20, 2_000))
def test_a_small_term_beside_a_root_is_seen(a: int, b: int, power: int) -> None:
    roots = rf"\sqrt{{{a}}} + \sqrt{{{b}}}"
    swapped = rf"\sqrt{{{b}}} + \sqrt{{{a}}}"
    for small in (rf"\frac{{1}}{{3^{{{power}}}}}", rf"10^{{-{power}}}"):
        assert same_answer(read(rf"{roots} + {small}"), read(swapped)) is False
        assert same_answer(read(rf"{roots} + {small}"), read(rf"{small} + {swapped}")) is True


@MODEST
@given(st.integers(5_000, 10**9), st.integers(2, 9))
def test_powers_too_large_to_write_out(exponent: int, base: int) -> None:
    left = read(rf"{base}^{{{2 * exponent}}}")
    assert same_answer(left, read(rf"{base * base}^{{{exponent}}}")) is True
    assert same_answer(left, read(rf"{base}^{{{2 * exponent}}} + 1")) is False
    assert same_answer(left, read(rf"{base}^{{{2 * exponent + 1}}}")) is False


@MODEST
@given(st.decimals(-(10**6), 10**6, places=5, allow_nan=False), st.integers(1, 9))
def test_a_short_decimal_is_exact(value: object, apart: int) -> None:
    assert same_answer(read(f"{value}"), read(f"{value}00")) is True
    assert same_answer(read(f"{value}"), read(f"{value}{apart}")) is False


@MODEST
@given(st.integers(20, 10**6), st.fractions(Fraction(1, 9), Fraction(8, 9), max_denominator=10**6))
def test_a_decimal_of_six_digits_stands_for_what_rounds_to_it(times: int, value: Fraction) -> None:
    over, under = value.numerator * times, value.denominator * times
    gold = read(rf"\frac{{{over}}}{{{under}}}")
    rounded = round(value * 10**8)
    assert same_answer(gold, read(f"0.{rounded:08d}")) is True
    assert same_answer(gold, read(f"0.{rounded + 1:08d}")) is False


@MODEST
@given(st.text("abcdehinorst", min_size=3, max_size=8), st.randoms(use_true_random=False))
def test_words_are_their_letters_in_order(word: str, random: object) -> None:
    letters = list(word)
    random.shuffle(letters)  # type: ignore[attr-defined]
    shuffled = "".join(letters)
    verdict = same_answer(read(rf"\text{{{word.upper()}}}"), read(shuffled.upper()))
    assert (verdict is True) == (word == shuffled)


@MODEST
@given(st.text(max_size=60))
def test_any_text_is_read_and_equal_to_itself(text: str) -> None:
    found = read(text)
    if found.key:
        assert same_answer(found, read(text)) is True
