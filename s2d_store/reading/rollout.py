"""One rollout, read whole: prompt, response, verdicts, and its tokens beside every scorer's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

import queries
from s2d_store.sql import connection, parameters

Record = dict[str, Any]
_STATEMENTS = ("rollouts_named", "rollout_read", "rollout_verdicts_read", "rollout_tokens_read")


@dataclass(frozen=True)
class Rollout:
    """A stored rollout.

    Attributes:
        rollout_id: its id.
        facts: policy, role, purpose, round, run, stage, split, prompt_id, gold, finish_reason, and
            numbers of tokens, by name.
        messages: the prompt's messages, with `role` and `content`.
        response: the decoded response; empty where no text is stored.
        verdicts: what each verifier said, those that count first.
        tokens: a record per response token and scorer, as view `tokens` has it.
    """

    rollout_id: str
    facts: Mapping[str, Any]
    messages: Sequence[Mapping[str, str]]
    response: str
    verdicts: Sequence[Record] = field(repr=False)
    tokens: Sequence[Record] = field(repr=False)

    @property
    def scorers(self) -> list[str]:
        """Policies beside its own that scored it."""
        return list(dict.fromkeys(row["scorer"] for row in self.tokens if row["scorer"]))

    def of_scorer(self, scorer: str | None = None) -> list[Record]:
        """Its tokens in order, beside one scorer: the first by default, if any scored it."""
        wanted = scorer or (self.scorers[0] if self.scorers else None)
        return [row for row in self.tokens if row["scorer"] == wanted]

    def __repr__(self) -> str:
        """One line: what it is and how it ended."""
        verdict = next((f", {v['outcome']}" for v in self.verdicts if v["counts"]), "")
        return (
            f"Rollout({self.rollout_id!r}, {self.facts['policy']}, "
            f"{self.facts['response_tokens']} tokens{verdict})"
        )

    def _repr_html_(self) -> str:
        from s2d_store.reading import html

        return html.rollout(self)


def statements() -> str:
    """The SQL that `read` runs, for a connection to make what it names."""
    return "\n".join(queries.internal(name) for name in _STATEMENTS)


def read(con: duckdb.DuckDBPyConnection, rollout_id: str) -> Rollout:
    """Read a rollout by its id, or the first characters of it.

    Raises:
        NotFoundError: there is none.
        InputError: several begin so.
    """
    found = parameters.rollout(con, rollout_id)
    with connection.errors():
        (facts,) = _records(con, "rollout_read", found)
        verdicts = _records(con, "rollout_verdicts_read", found)
        tokens = _records(con, "rollout_tokens_read", found)
    return Rollout(
        found, facts, facts.pop("messages") or [], facts.pop("response") or "", verdicts, tokens
    )


def versions_compete(found: Rollout) -> bool:
    """Whether some verifier has judged it in several versions, of which one counts."""
    versions = {(row["verifier"], row["verifier_version"]) for row in found.verdicts}
    return len(versions) > len({verifier for verifier, _ in versions})


def _records(con: duckdb.DuckDBPyConnection, name: str, rollout_id: str) -> list[Record]:
    # Not by a relation, which binds the statement twice.
    con.execute(queries.internal(name), {"rollout": rollout_id})
    columns = [column[0] for column in con.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in con.fetchall()]
