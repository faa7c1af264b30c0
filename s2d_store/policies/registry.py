"""Policies in the store: register a model under a name, and find it again unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from s2d_store.errors import InputError, NotFoundError
from s2d_store.ids import check_name
from s2d_store.policies.identity import PolicyInfo, inspect_policy
from s2d_store.policies.tokenizer import tokenizer_difference
from s2d_store.schema import TABLES
from s2d_store.sql import parameters
from s2d_store.store import Store


@dataclass(frozen=True)
class Registered:
    """A policy in the store and where its files are now."""

    policy_id: str
    name: str
    location: str
    tokenizer_fingerprint: str
    n_parameters: int


def register(
    store: Store,
    name: str,
    location: str,
    *,
    revision: str | None = None,
    parent_policy_id: str | None = None,
    run_id: str | None = None,
    update: int | None = None,
) -> Registered:
    """Register a model; the same model under the same name changes nothing.

    Raises:
        InputError: the name belongs to another policy, the policy has another name already, or
            the folder is not a whole model.
    """
    check_name(name, "policy")
    info, vocabulary = inspect_policy(location, revision)
    known = store.sql("SELECT policy_id, name FROM policies").fetchall()
    for policy_id, known_name in known:
        if (known_name == name) != (policy_id == info.policy_id):
            raise InputError(
                f"policy name {name!r} cannot be given to {location}",
                f"{known_name!r} is registered as {policy_id}, {location} is {info.policy_id}",
                f"s2d policies add OTHER_NAME {location}"
                if known_name == name
                else f"use its registered name {known_name!r}",
            )
    row = {
        "policy_id": info.policy_id,
        "name": name,
        "kind": "weights",
        "location": _absolute(info.location),
        "revision": revision,
        "tokenizer_fingerprint": info.tokenizer_fingerprint,
        "vocab_size": info.vocab_size,
        "n_parameters": info.n_parameters,
        "parent_policy_id": parent_policy_id,
        "run_id": run_id,
        "update": update,
        "created_at": datetime.now(UTC),
    }
    tokens = pa.table(
        {
            "tokenizer_fingerprint": pa.array([info.tokenizer_fingerprint] * len(vocabulary)),
            "token_id": pa.array(range(len(vocabulary)), pa.int32()),
            "token": pa.array(vocabulary, pa.string()),
        }
    )
    policies = pa.Table.from_pylist([row], schema=TABLES["policies"].schema)
    store.commit({"vocabularies": tokens, "policies": policies})
    return _registered(info, name)


def find(store: Store, name_or_location: str, revision: str | None = None) -> Registered:
    """A registered policy by name or id, its files checked; a folder or hub id that is not
    registered yet is registered under its last path part.

    Raises:
        NotFoundError: neither registered nor a location.
        InputError: the files at its location are not the registered policy any more.
    """
    con = store.connect(text="policies")
    try:
        policy_id, name = parameters.policy(con, name_or_location)
    except NotFoundError:
        if not Path(name_or_location).exists() and "/" not in name_or_location:
            raise
        name = Path(name_or_location).name
        return find_or_register(store, name, name_or_location, revision=revision)
    row = con.execute(
        "SELECT location, revision FROM policies WHERE policy_id = $id", {"id": policy_id}
    ).fetchone()
    assert row is not None, "the policy was just found"
    info, _ = inspect_policy(row[0], row[1])
    if info.policy_id != policy_id:
        raise InputError(
            f"policy {name!r} has changed on disk",
            f"{row[0]} is now {info.policy_id}, registered was {policy_id}",
            "restore the folder, or register it under a new name: s2d policies add NAME LOCATION",
        )
    return _registered(info, name)


def find_or_register(
    store: Store,
    name: str,
    location: str,
    *,
    revision: str | None = None,
    parent_policy_id: str | None = None,
    run_id: str | None = None,
    update: int | None = None,
) -> Registered:
    """The model at a location under the name it has already, else registered as `name`.

    Raises:
        InputError: it is new and the name is taken, or the folder is not a whole model.
    """
    info, _ = inspect_policy(location, revision)
    rows = store.sql(
        "SELECT name FROM policies WHERE policy_id = $id", {"id": info.policy_id}
    ).fetchall()
    if rows:
        return _registered(info, rows[0][0])
    return register(
        store,
        name,
        location,
        revision=revision,
        parent_policy_id=parent_policy_id,
        run_id=run_id,
        update=update,
    )


def require_same_tokenizer(store: Store, scorer: Registered, fingerprints: set[str]) -> None:
    """Refuse a scorer whose token ids mean something else than the stored rollouts'.

    Raises:
        InputError: names the tokens that differ.
    """
    for other in sorted(fingerprints - {scorer.tokenizer_fingerprint}):
        rows = "SELECT token FROM vocabularies WHERE tokenizer_fingerprint = $f ORDER BY token_id"
        ours, theirs = (
            [token for (token,) in store.sql(rows, {"f": fingerprint}).fetchall()]
            for fingerprint in (scorer.tokenizer_fingerprint, other)
        )
        raise InputError(
            f"policy {scorer.name!r} has another tokenizer than the rollouts it would score",
            tokenizer_difference(ours, theirs),
            "score with a teacher that shares the student's tokenizer, or select other rollouts "
            "with --where",
        )


def _registered(info: PolicyInfo, name: str) -> Registered:
    return Registered(
        info.policy_id, name, info.location, info.tokenizer_fingerprint, info.n_parameters
    )


def _absolute(location: str) -> str:
    return str(Path(location).absolute()) if Path(location).exists() else location
