"""Withdrawals: a verifier version whose verdicts no longer count, as a fact; nothing is deleted."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

import queries
from s2d_store.errors import InputError, NotFoundError
from s2d_store.schema import TABLES
from s2d_store.store import Store


def withdraw(store: Store, verifier: str, version: str, reason: str) -> int:
    """Say that a verifier version's verdicts do not count from now on.

    Views that choose verdicts (`current_rewards`, `graded_rollouts`) pass them over, so a verdict
    of an older version counts again where there is one. Locked datasets stay as they are; audit
    `withdrawn_verdicts` and `s2d trace` name those that took rewards from it.

    Returns:
        How many stored verdicts no longer count; 0 where it was withdrawn before.

    Raises:
        InputError: no reason is given.
        NotFoundError: the store has no verdict of that version.
    """
    if not reason.strip():
        raise InputError("no reason is given", fix='--reason "why its verdicts are wrong"')
    versions = store.sql(queries.internal("verdicts_held")).fetchall()
    counts = {(name, stated): int(count) for name, stated, count in versions}
    if (verifier, version) not in counts:
        held = ", ".join(f"{name} {stated}" for name, stated in counts)
        raise NotFoundError(
            f"the store has no verdict of {verifier} {version}",
            f"it has those of {held}" if held else "it has no verdicts",
            "s2d verifiers list",
        )
    row = {
        "verifier": verifier,
        "verifier_version": version,
        "reason": reason,
        "created_at": datetime.now(UTC),
    }
    table = pa.Table.from_pylist([row], schema=TABLES["withdrawals"].schema)
    added = store.commit({"withdrawals": table})["withdrawals"]
    return counts[verifier, version] if added else 0


def require_standing(store: Store, verifier: str, version: str) -> None:
    """Refuse to grade by a version that was withdrawn.

    Raises:
        InputError: it was, with the reason.
    """
    found = store.sql(
        queries.internal("withdrawal_of"),
        {"verifier": verifier, "version": version},
    ).fetchall()
    if found:
        raise InputError(
            f"verifier {verifier} {version} was withdrawn: {found[0][0]}",
            "its verdicts would not count",
            "repair it and give it another version",
        )
