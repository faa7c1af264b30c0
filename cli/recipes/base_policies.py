"""The policies that a recipe brings along: under which name each of them is in its store."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import queries
from s2d_store.errors import InputError
from s2d_store.mistakes import Mistakes
from s2d_store.policies import locations, registry
from s2d_store.policies.identity import inspect_policy
from s2d_store.store import Store


@dataclass(frozen=True)
class Base:
    """A policy that a recipe brings along.

    Attributes:
        name: its name in the store: the recipe's; where another policy has that, RECIPE.NAME;
            where the same model is there under another name, that one.
        policy_id: its id.
        location: its folder or hub id; of a served one those of its tokenizer.
        is_new: whether it is still to be registered.
        n_parameters: those that a token uses; None where unknown.
        is_served: whether an endpoint alone has its weights.
    """

    name: str
    policy_id: str
    location: str
    is_new: bool
    n_parameters: int | None = None
    is_served: bool = False


def find_bases(
    store: Store | None,
    recipe: str,
    given: Mapping[str, str],
    mistakes: Mistakes,
    served: Container[str] = (),
) -> dict[str, Base]:
    """Find every policy of a recipe in its store; nothing is written.

    A model at the place that the store knows under its name is taken to be the same: the commands
    that use it look at its files.

    Args:
        store: the store; None where there is none yet.
        recipe: the recipe's name.
        given: name in the recipe -> folder or hub id.
        mistakes: takes folders that are missing or hold no whole model; such a policy is left out.
        served: names of those that an endpoint serves.
    """
    known = [] if store is None else _known(store)
    ids = {} if store is None else _ids(store)
    found = {}
    for name, location in given.items():
        with mistakes.collect():
            is_served = name in served
            find = partial(_find_served, ids) if is_served else partial(_find, known)
            found[name] = find(recipe, name, location)
    return found


def _find(known: list[Base], recipe: str, name: str, location: str) -> Base:
    """A policy that is known, or that is added to those known."""
    names = (name, f"{recipe}.{name}")
    there = next((k for k in known if k.name in names and _is_at(k, location)), None)
    if there is None:
        info = inspect_policy(location)[0]
        there = next((k for k in known if k.policy_id == info.policy_id), None)
        if there is None:
            taken = any(k.name == name for k in known)
            size = info.active_parameters or info.n_parameters
            there = Base(names[taken], info.policy_id, location, is_new=True, n_parameters=size)
            known.append(there)
    return there


def _find_served(known: Mapping[str, str], recipe: str, name: str, tokenizer: str) -> Base:
    for own in (name, f"{recipe}.{name}"):
        policy_id = registry.id_without_weights("served", own)
        if known.get(own, policy_id) == policy_id:
            break
    else:
        raise InputError(
            f"the served policy {name!r} has no name left in the store",
            f"{name} and {own} are other policies there",
            "give it another name under [served]",
        )
    return Base(own, policy_id, tokenizer, is_new=own not in known, is_served=True)


def register_bases(store: Store, bases: Mapping[str, Base]) -> None:
    """Register those that are new."""
    for base in {base.policy_id: base for base in bases.values() if base.is_new}.values():
        if base.is_served:
            registry.register_without_weights(
                store, base.name, kind="served", tokenizer=base.location
            )
        else:
            registry.register(store, base.name, base.location)


def _known(store: Store) -> list[Base]:
    rows = store.sql(queries.internal("policies_of_weights"))
    return [
        Base(name, policy_id, locations.from_stored(store.root, at or ""), False, size)
        for name, policy_id, at, size in rows.fetchall()
    ]


def _ids(store: Store) -> dict[str, str]:
    """Ids of all policies by name."""
    return {
        str(name): str(policy_id)
        for policy_id, name in store.sql(queries.internal("policy_names")).fetchall()
    }


def _is_at(known: Base, location: str) -> bool:
    folder = Path(location).expanduser()
    return known.location == (str(folder.resolve()) if folder.is_dir() else location)
