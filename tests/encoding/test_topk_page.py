"""docs/format3-topk.md: its reader, run as it stands, and the macros that unnest a rollout."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from s2d_store.encoding import topk_codec, topk_ranks, topk_sql
from s2d_store.encoding.topk_ragged import keep_mass
from tests.encoding.test_topk_codec import TABLES, Row, model_rows, table

ROOT = Path(__file__).parents[2]
RANKS = topk_ranks.named(np.random.default_rng(1).permutation(2_000).astype(np.int32))


def page_reader(folder: Path) -> Any:
    text = (ROOT / "docs" / "format3-topk.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    file = folder / "page.py"
    file.write_text(code)
    return runpy.run_path(str(file))["read_row"]


def some_rows() -> pa.Table:
    """A scorer's own top k, ragged ones, somebody else's ids, float32 logits, odd values."""
    own = model_rows(40, 20, 16)
    ids, values = (np.asarray(own.column(n).chunk(0).values) for n in ("token_ids", "logprobs"))
    sampled = np.asarray(own.column("sampled_logprobs").chunk(0).values)
    order = np.random.default_rng(2).permuted(np.tile(np.arange(20), (40, 1)), axis=1)
    order = (order + 20 * np.arange(40)[:, None]).reshape(-1)
    odd, far = values.copy(), ids.copy()
    odd[[19, 799]], far[[0, 5]] = -np.inf, [-1, 60_000]
    foreign = table(
        [
            Row(20, None, ids[order], values[order], sampled),
            Row(20, None, far, odd, sampled),
            Row(0, None, ids[:0], values[:0], sampled),
        ]
    )
    return pa.concat_tables([own, keep_mass(own, 0.8), foreign, model_rows(9, 7, 0)])


def test_the_page_reads_what_the_codec_writes(tmp_path: Path) -> None:
    plain, read = some_rows(), page_reader(tmp_path)
    stored = topk_codec.encode(plain, RANKS)
    tables = {RANKS.ranks_id: RANKS.token_ids}
    for row, wanted in zip(stored.to_pylist(), plain.to_pylist(), strict=True):
        ids, logprobs = read(row, tables)
        assert ids.tolist() == wanted["token_ids"]
        assert logprobs.tobytes() == np.array(wanted["logprobs"], np.float32).tobytes()


def test_a_rollout_is_unnested_in_order_with_its_tokens() -> None:
    plain = some_rows()
    stored = topk_codec.encode(plain, RANKS)
    names = [f"scorer {i}" for i in range(plain.num_rows)][::-1]
    files = stored.append_column("scorer_policy_id", pa.array(names))
    con = duckdb.connect()
    topk_sql.register(con, ({RANKS.ranks_id: RANKS} | TABLES).__getitem__)
    text = (ROOT / "queries" / "raw" / "topk.sql").read_text()
    con.register("written", files)
    con.execute(
        "CREATE VIEW files AS SELECT * EXCLUDE rollout_id, 'one' AS rollout_id, 'own' AS support, "
        "'run' AS run_id, now() AS created_at FROM written"
    )
    con.execute(f"CREATE VIEW topk AS {text}")
    con.execute(
        "CREATE TABLE policies AS SELECT unnest($names) AS policy_id, policy_id AS name, "
        "'tokenizer' AS tokenizer_fingerprint",
        {"names": names},
    )
    con.execute(  # a vocabulary may lack ids
        "CREATE TABLE vocabularies AS SELECT 'tokenizer' AS tokenizer_fingerprint, "
        "i::INTEGER AS token_id, 'token ' || i AS token FROM range(2000) AS r(i) WHERE i % 7 != 0"
    )
    con.execute((ROOT / "queries" / "macros" / "topk_of.sql").read_text())
    found = con.sql("FROM topk_of('one')").to_arrow_table().to_pylist()
    con.close()
    wanted = []
    for name, row in sorted(zip(names, plain.to_pylist(), strict=True), key=lambda p: p[0]):
        counts = row["counts"] or [row["k"]] * len(row["sampled_logprobs"])
        entries = iter(zip(row["token_ids"], row["logprobs"], strict=True))
        for position, count in enumerate(counts):
            for rank in range(1, count + 1):
                token_id, logprob = next(entries)
                known = 0 <= token_id < 2000 and token_id % 7
                wanted.append(
                    {
                        "scorer": name,
                        "support": "own",
                        "position": position,
                        "sampled_logprob": row["sampled_logprobs"][position],
                        "rank": rank,
                        "token_id": token_id,
                        "token": f"token {token_id}" if known else None,
                        "logprob": logprob,
                    }
                )
    assert found == wanted


def test_a_rank_table_is_built_kept_and_refused_if_changed() -> None:
    rows = pa.chunked_array([pa.array([[5, 3, 3], [3, 5, 9, -1, 99]], pa.list_(pa.int32()))])
    ranks = topk_ranks.build([rows], 12)
    assert ranks.token_ids.tolist() == [3, 5, 9, 0, 1, 2, 4, 6, 7, 8, 10, 11]
    kept = topk_ranks.to_rows(ranks, "tokenizer")
    assert topk_ranks.from_rows(kept)[ranks.ranks_id].token_ids.tolist() == ranks.token_ids.tolist()
    changed = kept.set_column(2, "token_ids", pa.array([[3, 5]], pa.list_(pa.int32())))
    try:
        topk_ranks.from_rows(changed)
    except ValueError as error:
        assert str(ranks.ranks_id) in str(error)
    else:
        raise AssertionError("it should be refused")
