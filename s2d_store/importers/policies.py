"""The policies of imported rollouts: known by name alone, one per version of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from s2d_store import ids
from s2d_store.errors import InputError
from s2d_store.importers.record import Sampler
from s2d_store.store import Store

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_KNOWN = "SELECT name, policy_id, kind, tokenizer_fingerprint, location FROM policies"


def safe_name(text: str) -> str:
    """A name that may become a folder: `/` becomes `--`; where others are replaced, a hash tells
    names apart.
    """
    name = text.replace("/", "--")
    safe = _UNSAFE.sub("-", name).lstrip("._-")
    if safe != name or len(safe) > 90:
        safe = f"{safe[:80] or 'name'}-{ids.content_id(text)[:6]}"
    return safe


@dataclass(frozen=True, slots=True)
class Known:
    """A policy that the store or this import has: id, kind, tokenizer, its system's name."""

    policy_id: str
    kind: str
    fingerprint: str | None
    model: str | None


class Unnamed(Exception):
    """A rollout whose policy cannot be named: why, in the words of a reject."""


@dataclass
class Policies:
    """Finds or makes the policy of each rollout.

    Attributes:
        given: the name that the command gives; empty: that of the model.
        tokenizer: columns of table policies that tell the tokenizer, where it is known.
        new: rows of policies that are not stored yet, by name.
    """

    given: str
    tokenizer: dict[str, Any]
    known: dict[str, Known]
    new: dict[str, dict[str, Any]] = field(default_factory=dict)
    _ids: dict[tuple[Any, ...], str] = field(default_factory=dict)
    _versions: dict[str, int | str | None] = field(default_factory=dict)
    _model: str | None = None
    _names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, given: str, tokenizer: dict[str, Any]) -> Policies:
        """The policies of a store."""
        if given:
            ids.check_name(given, "policy")
        rows = store.sql(_KNOWN).fetchall()
        made = cls(given, tokenizer, {name: Known(*row) for name, *row in rows})
        of_given = re.compile(rf"{re.escape(given)}(\.v.*)?")
        for name, known in made.known.items():
            if known.kind == "outside" and known.model and of_given.fullmatch(name):
                made._model = known.model
        return made

    def base(self, sampler: Sampler) -> str:
        """The name of the policy that sampled, without its version.

        Raises:
            Unnamed: neither the command nor the file names it, or the command's name stands for
                rollouts of another model.
        """
        if self.given:
            self._model = self._model or sampler.model
            if sampler.model not in (None, self._model):
                raise Unnamed(f"of model {sampler.model}, while --policy stands for {self._model}")
            return self.given
        if not sampler.model:
            raise Unnamed("the file does not say which model sampled: pass --policy NAME")
        if sampler.model not in self._names:
            self._names[sampler.model] = safe_name(sampler.model)
        return self._names[sampler.model]

    def find(self, sampler: Sampler) -> str:
        """Id of the policy that sampled; a row for it where the store has none.

        Raises:
            Unnamed: see `base`; or a policy with weights would stand for two versions.
            InputError: the name is registered without the tokenizer that the command names.
        """
        key = (sampler.model, sampler.version, sampler.fingerprint)
        if key not in self._ids:
            self._ids[key] = self._make(sampler)
        return self._ids[key]

    def take_new(self) -> list[dict[str, Any]]:
        """Rows that no commit has had yet."""
        rows, self.new = list(self.new.values()), {}
        return rows

    def _make(self, sampler: Sampler) -> str:
        base = self.base(sampler)
        known = self.known.get(base)
        if known is not None and known.kind != "outside":
            # Weights that are here, or served: one version, so all must be it.
            same = self._versions.setdefault(base, sampler.version)
            if same != sampler.version:
                raise Unnamed(f"of version {sampler.version}, and {base} with its weights is one")
            return self._id_of(base)
        name = base if sampler.version is None else f"{base}.v{safe_name(str(sampler.version))}"
        return self._row(name, sampler)

    def _id_of(self, name: str) -> str:
        known = self.known[name]
        ours = self.tokenizer.get("tokenizer_fingerprint")
        if ours and known.fingerprint != ours:
            raise InputError(
                f"policy {name!r} is registered with another tokenizer, or without one",
                f"fingerprint {known.fingerprint or 'unknown'}; that of --tokenizer is {ours}",
                "--policy OTHER_NAME, or the tokenizer that it has",
            )
        return known.policy_id

    def _row(self, name: str, sampler: Sampler) -> str:
        if name in self.known:
            return self._id_of(name)
        version = sampler.version
        policy_id = ids.content_id("policy", "outside", name, sampler.fingerprint)
        whole = isinstance(version, int) and not isinstance(version, bool) and version >= 0
        self.new[name] = {
            "policy_id": policy_id,
            "name": name,
            "kind": "outside",
            "location": sampler.model,
            "revision": sampler.revision,
            "fingerprint": sampler.fingerprint,
            "n_parameters": sampler.n_parameters,
            "update": version if whole else None,
            "created_at": datetime.now(UTC),
            **self.tokenizer,
        }
        fingerprint = self.tokenizer.get("tokenizer_fingerprint")
        self.known[name] = Known(policy_id, "outside", fingerprint, sampler.model)
        return policy_id
