"""What stands beside an export, OUTPUT.s2d.json: which dataset it is, and how to train on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.sampled_with import SampledWith
from s2d_store.datasets.read import LockedDataset
from s2d_store.redact import redacted
from s2d_store.runs.record import code_version
from s2d_store.store import Store

SUFFIX = ".s2d.json"


def beside(output: Path) -> Path:
    """The sidecar's place."""
    return output.with_name(output.name + SUFFIX)


def describe(
    store: Store, dataset: LockedDataset, exporter: Exporter, options: Options, written: Written
) -> dict[str, Any]:
    """The sidecar's content: dataset, policies, tokenizer and templates, counts, settings."""
    lock, sampled = dataset.lock, SampledWith.of(store, dataset)
    kept = ("dataset_id", "query", "params", "seed", "code_version", "built_at", "scorers")
    record: dict[str, Any] = redacted(
        {
            "format": exporter.name,
            "s2d": code_version(),
            "dataset": {
                "name": lock.name,
                "kind": lock.kind,
                "fingerprint": lock.fingerprint,
                **{name: lock.raw.get(name) for name in kept},
            },
            "policies": _policies(sampled),
            "tokenizer_fingerprint": lock.tokenizer_fingerprint,
            "templates": sampled.templates(),
            "counts": {**lock.counts, "written": written.rows, "dropped": written.dropped},
            "options": {name: getattr(options, name) for name in exporter.options},
            "settings": written.settings,
            **written.facts,
        }
    )
    return record


def _policies(sampled: SampledWith) -> list[dict[str, Any]]:
    kept = ("policy_id", "policy", "policy_kind", "tokenizer_fingerprint", "tokenizer_hash")
    found = {row["policy_id"]: row for row in sampled.runs}
    return [{n: row[n] for n in (*kept, "template_hash")} for row in found.values()]


def text(record: dict[str, Any]) -> str:
    """The sidecar as it is written."""
    return json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
