"""What was spent, by stage, by run and behind a policy: every row is read once for all of it."""

from __future__ import annotations

from s2d_store.sql import connection
from viewer.snapshots import Record, View

PAGE = "spending"
# What is asked over one connection, whatever page asks.
QUERIES = ("spending", "lineage", "policy_names", "stage_edges")
# Views over every row that several of them read, each after those that it reads itself.
_READ = (
    *("generate_runs", "training_runs", "dataset_sources", "policy_sources"),
    *("labels_used", "graded_labels", "spent"),
)


def asked(view: View, name: str, **values: object) -> list[Record]:
    """Rows of one of QUERIES, kept for the next request of the same snapshot."""
    view.kept(("read once",), lambda: view.run(view.connect(PAGE), connection.keeping(_READ)))
    return view.asked(name, **values)
