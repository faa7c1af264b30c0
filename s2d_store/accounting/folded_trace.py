"""A trace in a few lines: the rounds of a stage as one, each teacher's own line below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Fold:
    """Policies of one line that one stage made, round after round.

    Attributes:
        line: the policy whose line it is: the one that was traced, or a teacher.
        stage: the stage; empty for a policy that no recorded run made.
        rounds: how many policies.
        first: the oldest of them.
        last: the newest.
        kinds: kinds of the datasets that they learned from.
        updates: optimizer updates of all rounds.
        rows: dataset rows of all rounds.
        response_tokens: of these rows.
        teachers: policies outside of the line that sampled or scored.
    """

    line: str
    stage: str
    rounds: int
    first: str
    last: str
    kinds: str
    updates: int
    rows: int
    response_tokens: int
    teachers: str


def fold(trace: Record) -> list[Fold]:
    """What `lineage.trace` found, folded: newest stages first, then each teacher's."""
    known = {record["policy_id"]: record for record in _policies(trace) if "run" in record}
    waiting, shown, found = [trace["policy_id"]], set[str](), list[Fold]()
    while waiting:
        head = waiting.pop(0)
        if head in shown or head not in known:
            continue
        line = list(_parents(head, known))
        own = {record["policy_id"] for record in line}
        for stage, made in groupby(line, key=_stage):
            policies = [record for record in made if record["policy_id"] not in shown]
            if not policies:
                continue
            datasets = [d for record in policies for d in (record["run"] or {}).get("datasets", ())]
            teachers = {
                other["policy_id"]: other["name"] or other["policy_id"]
                for dataset in datasets
                for other in _beside(dataset)
                if other["policy_id"] not in own
            }
            waiting += teachers
            counts = [dataset["counts"] or {} for dataset in datasets]
            found.append(
                Fold(
                    known[head]["name"],
                    stage,
                    len(policies),
                    policies[-1]["name"],
                    policies[0]["name"],
                    ", ".join(sorted({str(d["kind"]) for d in datasets if d["kind"]})),
                    sum((record["run"] or {}).get("updates", 0) for record in policies),
                    sum(count.get("rows", 0) for count in counts),
                    sum(count.get("response_tokens", 0) for count in counts),
                    ", ".join(sorted(teachers.values())),
                )
            )
        shown |= own
    return found


def _stage(record: Record) -> str:
    run = record["run"]
    return "" if run is None else run.get("stage") or run["run_id"]


def _parents(policy_id: str, known: dict[str, Record]) -> Iterator[Record]:
    """A policy and those it was trained from, the newest first."""
    met = set[str]()
    while policy_id in known and policy_id not in met:
        met.add(policy_id)
        yield known[policy_id]
        policy_id = (known[policy_id]["parent"] or {}).get("policy_id", "")


def _beside(dataset: Record) -> Iterator[Record]:
    """The policies that sampled and scored a dataset's rows."""
    for run in dataset["generate_runs"]:
        yield run["policy"]
    for run in dataset["score_runs"]:
        yield run["scorer"]


def _policies(record: Record) -> Iterator[Record]:
    """Every policy of a trace, wherever it stands."""
    waiting = [record]
    while waiting:
        policy = waiting.pop()
        yield policy
        if policy.get("parent"):
            waiting.append(policy["parent"])
        for dataset in (policy.get("run") or {}).get("datasets", ()):
            waiting += _beside(dataset)
