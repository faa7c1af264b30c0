"""Verifiers by name, and what becomes of what they return."""

from __future__ import annotations

import pytest

from s2d_store.errors import InputError, NotFoundError
from s2d_store.verifiers.base import Verdict
from s2d_store.verifiers.registry import available, load_verifier
from s2d_store.verifiers.verdict_checks import check_verdict


class Nameless:
    def verify(self, response: str, answer: str) -> Verdict:
        raise AssertionError("never accepted")


def test_registry_has_math_verify_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2d_store.verifiers.registry.entry_points", lambda group: ())
    assert available()["math-verify"] == "s2d_store.verifiers.math:MathVerifier"
    verifier = load_verifier("math-verify")
    assert verifier.name == "math-verify" and verifier.version.endswith("+s2d3")


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
    assert check_verdict(Verdict(0.0, "wrong", None)).outcome == "error"  # type: ignore[arg-type]
    assert check_verdict("correct").outcome == "error"  # type: ignore[arg-type]
