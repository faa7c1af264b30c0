"""Verifiers by name, and what becomes of what they return."""

from __future__ import annotations

import pytest

from s2d_store.errors import InputError, NotFoundError, S2DError
from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.registry import available, load_verifier, resolve
from s2d_store.verifiers.settings import split, with_answer_from
from s2d_store.verifiers.verdict_checks import check_verdict


class Nameless:
    def verify(self, response: str, answer: str) -> Verdict:
        raise AssertionError("never accepted")


def test_registry_has_math_verify_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2d_store.verifiers.registry.entry_points", lambda group: ())
    assert available()["math-verify"] == "s2d_store.verifiers.math:MathVerifier"
    verifier = load_verifier("math-verify")
    assert verifier.name == "math-verify" and verifier.version.endswith("+s2d7")


def test_registry_unknown_names_say_what_there_is() -> None:
    with pytest.raises(NotFoundError, match=r"(?s)'maths'.*available.*math-verify.*s2d\.verifiers"):
        load_verifier("maths")
    with pytest.raises(
        NotFoundError, match=r"cannot import tests\.verifiers\.test_verifier_registry:Missing"
    ):
        load_verifier("tests.verifiers.test_verifier_registry:Missing")
    with pytest.raises(InputError, match="module:Class"):
        load_verifier("tests.verifiers.test_verifier_registry:")
    with pytest.raises(InputError, match="is not a verifier"):
        load_verifier("tests.verifiers.test_verifier_registry:Nameless")


def test_checked_makes_texts_storable() -> None:
    assert check_verdict(Verdict(0.0, "wrong", "a\ud800", "\udc00\x00")) == Verdict(
        0.0, "wrong", "a?", "?\x00"
    )


def test_checked_passes_good_verdicts_through() -> None:
    good = Verdict(0.25, "wrong", "1/4")
    assert check_verdict(good) == good
    assert check_verdict(Verdict(0.0, "wrong", None)).outcome == "error"
    assert check_verdict("correct").outcome == "error"  # type: ignore[arg-type]


class Configured:
    """Its version shows its settings."""

    def __init__(self, scale: str, note: str = "none") -> None:
        self.name, self.version = "configured", f"{scale}/{note}"

    def verify(self, response: str, answer: str) -> Verdict:
        return Verdict(float(self.version.split("/")[0]), "scored")


CONFIGURED = "tests.verifiers.test_verifier_registry:Configured"


def test_settings_stand_behind_a_name() -> None:
    assert load_verifier("math-verify(answer_from=box)").name == "math-verify.box"
    given = f'{CONFIGURED}( scale=2, note="a, (b) = c" )'
    assert load_verifier(given).version == "2/a, (b) = c"
    assert resolve(given) == f'{CONFIGURED}(scale="2", note="a, (b) = c")'
    asked = f"both = 0.5 * {CONFIGURED}(scale=4) + math-verify(answer_from=box)"
    both = load_verifier(asked)
    verdict = both.grade(Item("r", r"\boxed{5}", "5"))
    assert (both.name, verdict.reward, verdict.outcome) == ("both", 3.0, "correct")
    assert list(verdict.metrics or {}) == ["configured", "math-verify.box"]
    assert load_verifier(asked.replace("scale=4", "scale=3")).version != both.version


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("math-verify(answer_from)", "does not say what its settings are"),
        ("math-verify()", "does not say what its settings are"),
        ("math-verify(answer_from=box, answer_from=tag)", "does not say what its settings are"),
        ("math-verify(answer_from=boxes)", "'boxes' is no place of an answer"),
        ("math-verify(place=box)", r"(?s)does not take these settings.*it takes answer_from"),
        (f"{CONFIGURED}(note=x)", r"missing a required argument: 'scale'"),
        ("exact-match(a=b)", r"(?s)does not take these settings.*it takes none"),
        ("maths(a=b)", "no verifier is named 'maths'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(asked: str, message: str) -> None:
    with pytest.raises(S2DError, match=message):
        load_verifier(asked)


def test_the_option_is_the_setting_of_math_verify() -> None:
    assert with_answer_from("choice", "auto") == "choice"
    assert split(with_answer_from("math-verify", "tag")) == ("math-verify", {"answer_from": "tag"})
    with pytest.raises(InputError, match=r"--answer-from box is given beside verifier 'choice'"):
        with_answer_from("choice", "box")
