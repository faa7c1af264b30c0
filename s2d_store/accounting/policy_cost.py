"""What policies cost in all, their parents and teachers included: query `lineage`, for many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import queries
from s2d_store.sql import connection, parameters
from s2d_store.store import Store

COSTS = (
    "labels",
    "generated_tokens",
    "scored_tokens",
    "trained_tokens",
    "updates",
    "flops",
    "label_visits",
)
# Views over every row that the query reads: for each policy they would be made anew.
_READ = ("policy_sources", "spent", "training_runs", "labels_used", "graded_labels")


def policy_costs(store: Store, policies: Sequence[str]) -> Iterator[dict[str, float]]:
    """The totals of each policy's whole lineage, by the names in COSTS, in the order given.

    Args:
        store: the store, of whose facts of this moment all totals are.
        policies: names or ids.

    Raises:
        NotFoundError: no such policy.
        QueryError: the store cannot be read.
    """
    lineage = queries.find("lineage")
    assert lineage is not None, "lineage is a shipped query"
    con = store.connect(text=queries.texts("lineage", "policy_names"))
    connection.read_once(con, _READ)
    for policy in policies:
        policy_id, _ = parameters.policy(con, policy)
        with connection.errors():
            found = con.execute(
                f"SELECT {', '.join(COSTS)} FROM ({lineage.sql}\n) WHERE level = 'all'",
                {"policy": policy_id, "purpose": "train"},
            ).fetchall()[0]
        yield dict(zip(COSTS, found, strict=True))
