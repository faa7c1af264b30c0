from __future__ import annotations

import json

import pytest

from s2d_store.publishing.masks import COLUMNS, masked
from s2d_store.schema import TABLES
from tests.support import synthetic


def test_every_masked_column_is_one_that_the_table_has() -> None:
    for table, columns in COLUMNS.items():
        assert set(columns) <= set(TABLES[table].column_names)


def test_what_verifiers_read_of_prompts_keeps_its_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "one-two-three-four")
    meta = {"tests": "open('/tmp/in/x.txt')", "key": "one-two-three-four"}
    row = synthetic.PROMPT | {"prompt_id": "p", "meta": json.dumps(meta)}
    table = masked("prompts", synthetic.table("prompts", [row]))
    assert json.loads(table.column("meta")[0].as_py()) == meta | {"key": "***"}
    assert table.schema.equals(synthetic.table("prompts", [row]).schema)


def test_hub_ids_stay_and_folders_do_not() -> None:
    rows = [
        synthetic.policy(name) | {"location": location}
        for name, location in (("a", "/home/ann/a"), ("b", "Qwen/Qwen3-4B"), ("c", "../models/c"))
    ]
    table = masked("policies", synthetic.table("policies", rows))
    assert table.column("location").to_pylist() == [
        "./policies/a", "Qwen/Qwen3-4B", "./policies/c"
    ]  # fmt: skip
