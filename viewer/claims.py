"""Claims of an experiment, as its recipe names them, held against what the store holds.

    [claim.new-labels]
    text = "Stage 3 on new labels beats the replay of old ones"
    better = "stage3"
    than = "replay"
    proof = ["replay_matched"]

    [claim.old-labels]
    text = "the replay gains nothing over the bridge"
    same = ["replay", "bridge"]
    margin = 0.02

`better`, `than` and `same` name stages or policies; of a stage, its newest evaluated policy.
`proof` names audits that show that the two are matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2d_store.errors import InputError

HELP = "docs/report.md explains claims"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`[claim.NAME]`: what the experiment says of two policies, for `s2d report`."""

    text: str
    """The claim in words."""
    better: str = ""
    """The stage or policy that is said to be better ..."""
    than: str = ""
    """... than this one."""
    same: tuple[str, ...] = ()
    """Or two stages or policies that are said to be the same, up to `margin`."""
    margin: float = 0.0
    """Difference of avg@n that does not matter; of `same` alone."""
    proof: tuple[str, ...] = ()
    """Audits that show that the two are matched, as `replay_matched`."""

    @property
    def sides(self) -> tuple[str, str]:
        """The two that are compared."""
        return (self.same[0], self.same[1]) if self.same else (self.better, self.than)


def check(claim: Claim, where: str) -> None:
    """Refuse a claim that does not compare two policies in one way.

    Args:
        claim: the claim.
        where: where it stands, for the error.

    Raises:
        InputError: it says neither, or both, of better and same.
    """
    if bool(claim.same) == bool(claim.better or claim.than):
        raise InputError(
            f"{where} says neither which is better nor which are the same, or both",
            'give better and than, or same = ["A", "B"] and margin',
            HELP,
        )
    if claim.same and (len(claim.same) != 2 or claim.margin <= 0):
        raise InputError(
            f"{where} compares {len(claim.same)} policies, margin {claim.margin:g}",
            "no difference is only ever shown for two, up to a margin above 0 that is named first",
            'same = ["A", "B"] and margin = 0.02',
        )
    if not claim.same and not (claim.better and claim.than):
        raise InputError(f"{where} lacks better or than", "it compares two", HELP)


def policies_by_name(boxes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The evaluated policy that the name of a stage, or of a policy itself, stands for."""
    found: dict[str, str] = {}
    for box in boxes:
        if box["score"] is not None:
            found[box["name"]] = box["score"]["policy"]
            found |= {name: name for name in box["policies"]}
    return found


def verdict(
    claim: Claim, pair: Mapping[str, Any] | None, audits: Mapping[str, str]
) -> dict[str, Any]:
    """Whether a claim holds.

    Args:
        claim: the claim.
        pair: its row of query `eval_pairs`, first against second; None where there is none.
        audits: status by name.
    """
    proofs = {name: audits.get(name, "not run") for name in claim.proof}
    wanted = "equivalent" if claim.same else "better"
    said = "not evaluated" if pair is None else str(pair["conclusion"])
    against = [f"audit {name}: {status}" for name, status in proofs.items() if status != "passed"]
    if wanted not in said.split(", "):
        against.append(f"the test says: {said}")
    figures = ("policy", "against", "prompts", "difference", "standard_error", "low", "high")
    return {
        "text": claim.text,
        "comparison": " = ".join(claim.sides) if claim.same else " > ".join(claim.sides),
        "margin": claim.margin or None,
        **{name: None if pair is None else pair[name] for name in figures},
        "p": None if pair is None else pair["p_equivalent" if claim.same else "p"],
        "proofs": proofs,
        "holds": not against,
        "why": "; ".join(against),
    }
