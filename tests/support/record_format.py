"""Record a tiny store: python -m tests.support.record_format tests/formats/vN."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

import queries
from s2d_store.datasets.build import build
from s2d_store.schema import TABLES
from s2d_store.store import Store
from tests.support import synthetic


def on_a_grid(store: Store) -> pa.Table:
    """The rows of table topk once more, as support `policy`, with logprobs of rounded logits."""
    table = store.sql("SELECT * FROM topk ORDER BY rollout_id").to_arrow_table()
    lists = table.column("logprobs").combine_chunks()
    rounded = np.rint(lists.values.to_numpy() * 256) / np.float32(256)
    logprobs = pa.ListArray.from_arrays(lists.offsets, pa.array(rounded, pa.float32()))
    at = table.column_names.index
    table = table.set_column(at("logprobs"), "logprobs", logprobs)
    return table.set_column(at("support"), "support", pa.array(["policy"] * table.num_rows))


if __name__ == "__main__":
    store = Store.init(Path(sys.argv[1]))
    synthetic.fill(store, n_prompts=2, n=2, k=3)
    store.commit({"topk": on_a_grid(store)})
    build(store, "warmup", queries.catalog()["warmup"], {"teacher": "teacher"})
    con = store.connect()
    counts = {name: con.sql(f"SELECT count(*) FROM raw.{name}").fetchall()[0][0] for name in TABLES}
    (store.root / "counts.json").write_text(json.dumps(counts, indent=2) + "\n")
    shutil.rmtree(store.folder / "locks")
    # Delta notes where a table was created, for information alone.
    for log in store.folder.rglob("_delta_log/*.json"):
        log.write_text(log.read_text().replace(f"file://{store.root}/", "file:///store/"))
