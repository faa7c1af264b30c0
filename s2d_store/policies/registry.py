"""Policies in the store: register a model under a name, and find it again unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

import queries
from s2d_store import ids
from s2d_store.errors import InputError, NotFoundError
from s2d_store.ids import check_name
from s2d_store.policies import locations
from s2d_store.policies.chat_template import template_hash
from s2d_store.policies.identity import PolicyInfo, inspect_policy, is_unchanged
from s2d_store.policies.tokenizer import (
    load_tokenizer,
    read_vocabulary,
    tokenizer_difference,
    tokenizer_fingerprint,
    tokenizer_hash,
)
from s2d_store.schema import TABLES
from s2d_store.sql import parameters
from s2d_store.store import Store

Kind = Literal["weights", "served", "outside"]


@dataclass(frozen=True)
class Registered:
    """A policy in the store and where its files are now.

    Attributes:
        policy_id: its id.
        name: its name.
        location: folder or hub id; of a served policy that of its tokenizer alone, or empty; empty
            for one that is known by name.
        tokenizer_fingerprint: of its id -> token map; empty where unknown.
        n_parameters: None where unknown.
        active_parameters: those that one token uses; None where unknown.
        lookup_parameters, head_parameters, attention_width: see table policies; None where unknown.
        tokenizer_hash: of tokenizer.json; None where unknown.
        template_hash: of its chat template; None where it has none, or is unknown.
        kind: weights, served or outside.
    """

    policy_id: str
    name: str
    location: str
    tokenizer_fingerprint: str
    n_parameters: int | None
    active_parameters: int | None = None
    tokenizer_hash: str | None = None
    template_hash: str | None = None
    kind: str = "weights"
    lookup_parameters: int | None = None
    head_parameters: int | None = None
    attention_width: int | None = None


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

    Where its files are gone from the place that the store knows, the new place is recorded.

    Raises:
        InputError: the name belongs to another policy, the policy has another name already, or
            the folder is not a whole model.
    """
    check_name(name, "policy")
    info, vocabulary = inspect_policy(location, revision)
    known = store.sql(queries.internal("policy_names")).fetchall()
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
        "location": locations.to_stored(store.root, info.location),
        "revision": revision,
        "tokenizer_fingerprint": info.tokenizer_fingerprint,
        "tokenizer_hash": info.tokenizer_hash,
        "template_hash": info.template_hash,
        "vocab_size": info.vocab_size,
        "n_parameters": info.n_parameters,
        "active_parameters": info.active_parameters,
        "lookup_parameters": info.lookup_parameters,
        "head_parameters": info.head_parameters,
        "attention_width": info.attention_width,
        "parent_policy_id": parent_policy_id,
        "run_id": run_id,
        "update": update,
        "created_at": datetime.now(UTC),
    }
    tokens = _vocabulary_rows(info.tokenizer_fingerprint, vocabulary)
    policies = pa.Table.from_pylist([row], schema=TABLES["policies"].schema)
    store.commit({"vocabularies": tokens, "policies": policies})
    if (info.policy_id, name) in known:
        there = _record(store, info.policy_id)["location"]
        if _is_gone(locations.from_stored(store.root, there)):
            _relocate(store, info, revision)
    return _registered(info, name)


def register_without_weights(
    store: Store,
    name: str,
    *,
    kind: Kind = "outside",
    fingerprint: str | None = None,
    parent_policy_id: str | None = None,
    tokenizer: str = "",
) -> Registered:
    """Register a policy that is known by name alone, or served; what is unknown is null.

    Args:
        store: the store.
        name: its name, from which its id is made.
        kind: outside or served.
        fingerprint: what others declare of its weights, if anything.
        parent_policy_id: the policy that it was trained from, where that is known.
        tokenizer: folder or hub id of a served policy's tokenizer, so that prompts go as ids.

    Raises:
        InputError: the name belongs to another policy, or the tokenizer cannot be read.
    """
    check_name(name, "policy")
    policy_id = id_without_weights(kind, name, fingerprint)
    for known, known_name in store.sql(queries.internal("policy_names")).fetchall():
        if known_name == name and known != policy_id:
            raise InputError(
                f"policy name {name!r} is taken",
                f"it is policy {known}",
                "choose another name, or use the registered one",
            )
    row: dict[str, Any] = {
        "policy_id": policy_id,
        "name": name,
        "kind": kind,
        "fingerprint": fingerprint,
        "parent_policy_id": parent_policy_id,
        "created_at": datetime.now(UTC),
    }
    tables = {}
    if tokenizer:
        folder = locations.resolve_location(tokenizer)
        loaded = load_tokenizer(str(folder))
        vocabulary = read_vocabulary(loaded)
        row["location"] = locations.to_stored(store.root, tokenizer)
        row["tokenizer_fingerprint"] = tokenizer_fingerprint(vocabulary)
        row["tokenizer_hash"] = tokenizer_hash(folder)
        row["template_hash"] = template_hash(loaded.chat_template)
        tables["vocabularies"] = _vocabulary_rows(row["tokenizer_fingerprint"], vocabulary)
    tables["policies"] = pa.Table.from_pylist([row], schema=TABLES["policies"].schema)
    store.commit(tables)
    return recorded(store, policy_id)


def id_without_weights(kind: Kind, name: str, fingerprint: str | None = None) -> str:
    """The id of a policy that is known by name alone, or served."""
    return ids.content_id("policy", kind, name, fingerprint)


def move(store: Store, name: str, location: str, revision: str | None = None) -> Registered:
    """Record that a policy's files are at another place now.

    Raises:
        NotFoundError: no such policy, or nothing at that place.
        InputError: it has no weights, or another model is there.
    """
    policy_id, name = parameters.policy(store.connect(text="policies"), name)
    _require_weights(name, _record(store, policy_id)["kind"])
    info, _ = inspect_policy(location, revision)
    if info.policy_id != policy_id:
        raise InputError(
            f"{location} is not policy {name!r}",
            f"it is {info.policy_id}, {name!r} is {policy_id}",
            f"name the folder that holds {name!r}, or: s2d policies add OTHER_NAME {location}",
        )
    _relocate(store, info, revision)
    return _registered(info, name)


def recorded(store: Store, policy_id: str) -> Registered:
    """A registered policy by its id as the store knows it; its files are not looked at."""
    row = _record(store, policy_id)
    return Registered(
        policy_id,
        row["name"],
        locations.from_stored(store.root, row["location"] or ""),
        row["tokenizer_fingerprint"] or "",
        row["n_parameters"],
        row["active_parameters"],
        row["tokenizer_hash"],
        row["template_hash"],
        row["kind"],
        row["lookup_parameters"],
        row["head_parameters"],
        row["attention_width"],
    )


def is_as_recorded(policy: Registered) -> bool:
    """Whether a folder holds the policy that was registered; true where there is no folder."""
    if policy.kind != "weights" or not policy.location or not Path(policy.location).is_dir():
        return True
    return is_unchanged(
        Path(policy.location),
        policy.policy_id,
        policy.tokenizer_fingerprint,
        policy.tokenizer_hash,
        policy.template_hash,
    )


def find(
    store: Store, name_or_location: str, revision: str | None = None, *, served: bool = False
) -> Registered:
    """A registered policy with weights by name or id, its files checked; a folder or hub id that is
    not registered yet is registered under its last path part.

    Args:
        store: the store.
        name_or_location: which one.
        revision: hub revision of one that is not registered yet.
        served: whether one without weights will do, if an endpoint serves it.

    Raises:
        NotFoundError: neither registered nor a location, or its files are gone.
        InputError: it has no weights here, or the files at its location are not the registered
            policy any more.
    """
    try:
        policy_id, name = parameters.policy(store.connect(text="policies"), name_or_location)
    except NotFoundError:
        if not Path(name_or_location).exists() and "/" not in name_or_location:
            raise
        name = Path(name_or_location).name
        return find_or_register(store, name, name_or_location, revision=revision)
    row = _record(store, policy_id)
    if served and row["kind"] == "served":
        return recorded(store, policy_id)
    _require_weights(name, row["kind"])
    location = locations.from_stored(store.root, row["location"])
    if _is_gone(location):
        raise NotFoundError(
            f"the files of policy {name!r} are not at {location}",
            "the folder was moved or deleted",
            f"s2d policies move {name} FOLDER",
        )
    info, _ = inspect_policy(location, row["revision"])
    if info.policy_id != policy_id:
        raise InputError(
            f"policy {name!r} has changed on disk",
            f"{location} is now {info.policy_id}, registered was {policy_id}",
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


def require_same_tokenizer(store: Store, scorer: Registered, fingerprints: set[str | None]) -> None:
    """Refuse a scorer whose token ids mean something else than the stored rollouts'.

    Args:
        store: the store.
        scorer: the policy that would score.
        fingerprints: of the policies that sampled; None for one that nothing is known of.

    Raises:
        InputError: names the tokens that differ.
    """
    if None in fingerprints:
        raise InputError(
            f"some of the rollouts that {scorer.name!r} would score have an unknown tokenizer",
            "the policies that sampled them are known by name alone",
            "leave them out with --where",
        )
    for other in sorted(map(str, fingerprints - {scorer.tokenizer_fingerprint})):
        rows = queries.internal("policy_tokens")
        ours, theirs = (
            [token for (token,) in store.sql(rows, {"fingerprint": fingerprint}).fetchall()]
            for fingerprint in (scorer.tokenizer_fingerprint, other)
        )
        raise InputError(
            f"policy {scorer.name!r} has another tokenizer than the rollouts it would score",
            tokenizer_difference(ours, theirs),
            "score with a teacher that shares the student's tokenizer, or select other rollouts "
            "with --where",
        )


def _record(store: Store, policy_id: str) -> dict[str, Any]:
    found = store.sql(queries.internal("policy_record"), {"policy_id": policy_id})
    (row,) = found.fetchall()
    return dict(zip(found.columns, row, strict=True))


def _require_weights(name: str, kind: str) -> None:
    if kind != "weights":
        where = "an endpoint serves it" if kind == "served" else "it is known by name alone"
        raise InputError(
            f"policy {name!r} has no weights here",
            f"{where}: it cannot sample, score or be trained by this machine",
            "s2d policies add OTHER_NAME FOLDER registers its weights, where you have them"
            + ("; or --engine server --url URL" if kind == "served" else ""),
        )


def _vocabulary_rows(fingerprint: str, vocabulary: list[str]) -> pa.Table:
    return pa.table(
        {
            "tokenizer_fingerprint": pa.array([fingerprint] * len(vocabulary)),
            "token_id": pa.array(range(len(vocabulary)), pa.int32()),
            "token": pa.array(vocabulary, pa.string()),
        }
    )


def _is_gone(location: str) -> bool:
    return Path(location).is_absolute() and not Path(location).is_dir()


def _relocate(store: Store, info: PolicyInfo, revision: str | None) -> None:
    row = {
        "policy_id": info.policy_id,
        "location": locations.to_stored(store.root, info.location),
        "revision": revision,
        "created_at": datetime.now(UTC),
    }
    table = pa.Table.from_pylist([row], schema=TABLES["relocations"].schema)
    store.commit({"relocations": table}, fresh=True)


def _registered(info: PolicyInfo, name: str) -> Registered:
    return Registered(
        info.policy_id,
        name,
        info.location,
        info.tokenizer_fingerprint,
        info.n_parameters,
        info.active_parameters,
        info.tokenizer_hash,
        info.template_hash,
        "weights",
        info.lookup_parameters,
        info.head_parameters,
        info.attention_width,
    )
