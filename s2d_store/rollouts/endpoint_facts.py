"""What an engine found out about its endpoints, as rows of table endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pyarrow as pa

import queries
from s2d_store.engines.base import EndpointProbe, Engine, SamplingParams, Served
from s2d_store.errors import InputError
from s2d_store.policies.registry import Registered
from s2d_store.redact import redact
from s2d_store.rollouts.progress import OnNotice
from s2d_store.schema import TABLES
from s2d_store.store import Store


@contextmanager
def recorded(
    store: Store,
    policy: Registered,
    run_id: str,
    engine: Engine,
    params: SamplingParams | None,
    on_notice: OnNotice,
) -> Iterator[dict[str, str]]:
    """Store the probes of an engine in front of servers and say what these cannot give.

    Args:
        store: the store.
        policy: what the servers are taken for.
        run_id: the run that works with them.
        engine: any; one that holds its model has nothing to store.
        params: how tokens will be drawn; None while scoring.
        on_notice: told what stays null, before the first request.

    Yields:
        Rollouts that no answer could be stored for, and why; filled while the block runs.

    Raises:
        InputError: another model or tokenizer was behind the policy's endpoints before.
    """
    if not isinstance(engine, Served):
        yield {}
        return
    engine.rejected.clear()
    _require_same(store, policy, engine.probes)
    _commit(store, policy, run_id, engine.probes)
    for sentence in engine.lacks(params):
        on_notice(sentence)
    try:
        yield engine.rejected
    finally:
        # Endpoints that came while it ran; the others' rows are there and add nothing.
        _commit(store, policy, run_id, engine.probes)


def _require_same(store: Store, policy: Registered, probes: list[EndpointProbe]) -> None:
    text = queries.internal("endpoint_models")
    before = store.sql(text, {"policy_id": policy.policy_id}).fetchall()
    models = {model for model, _ in before}
    tokenizers = {tokenizer for _, tokenizer in before if tokenizer}
    # Weights have an identity of their own: whoever serves them may call them what he likes.
    for probe in probes if policy.kind == "served" else ():
        if models and probe.model_name not in models:
            raise InputError(
                f"{probe.endpoint} serves {probe.model_name!r}, not what it is to be: "
                f"policy {policy.name!r} was {', '.join(map(repr, sorted(models)))} so far",
                "one policy is one model",
                "s2d policies add OTHER_NAME --served, or --engine-arg model=NAME",
            )
        new = probe.tokenizer_fingerprint
        if tokenizers and new and new not in tokenizers:
            raise InputError(
                f"{probe.endpoint} has another tokenizer than policy {policy.name!r} had so far",
                f"its fingerprint is {new}, that of earlier probes {', '.join(sorted(tokenizers))}",
                "s2d policies add OTHER_NAME --served --tokenizer FOLDER",
            )


def _commit(store: Store, policy: Registered, run_id: str, probes: list[EndpointProbe]) -> None:
    rows = []
    for probe in probes:
        row = asdict(probe)
        row |= {"policy_id": policy.policy_id, "run_id": run_id}
        row |= {"created_at": row.pop("probed_at"), "endpoint": redact(probe.endpoint)}
        rows.append(row)
    table = pa.Table.from_pylist(rows, schema=TABLES["endpoints"].schema)
    store.commit({"endpoints": table})
