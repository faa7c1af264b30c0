"""Top-k in a store: ids by rank, logprobs in steps, and every bit back in Python and in SQL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store.encoding import topk_codec
from s2d_store.errors import InputError, StoreError
from s2d_store.maintenance.compact import compact
from s2d_store.schema import TABLES
from s2d_store.store import Store
from s2d_store.tables import parquet_writer, rank_choice, rank_tables
from tests.support.rounded_topk import VOCAB, bits, entries, table
from tests.support.synthetic import policy
from tests.support.synthetic import table as rows_of

SCORER = policy("scorer") | {"vocab_size": VOCAB}


def scored(n: int, seed: int, scorer: str = SCORER["policy_id"]) -> pa.Table:
    """Rows of n rollouts with ids of their own, some of float32 logits."""
    made = table(entries([9] * n, [6] * n, seed, 7) + entries([4], [6], seed, None))
    names = pa.array([f"{seed}-{i}" for i in range(n + 1)])
    at = made.column_names.index("scorer_policy_id")
    return made.set_column(0, "rollout_id", names).set_column(
        at, "scorer_policy_id", pa.array([scorer] * (n + 1))
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.init(tmp_path / "store")
    made.commit({"policies": rows_of("policies", [SCORER])})
    return made


def stored_ranks(store: Store) -> list[str]:
    return [row[0] for row in store.sql("SELECT ranks_id FROM token_ranks").fetchall()]


def used_ranks(store: Store) -> set[str | None]:
    files = store.snapshot().files["topk"]
    return {name for f in files for name in pq.read_table(f).column("ranks_id").to_pylist()}


def test_sql_and_files_return_what_was_committed(store: Store) -> None:
    made = scored(3, 1)
    assert store.commit({"topk": made}) == {"topk": 4}
    found = store.sql("SELECT * FROM topk ORDER BY rollout_id").to_arrow_table()
    assert bits(found.column("logprobs")) == bits(made.column("logprobs"))
    assert bits(found.column("sampled_logprobs")) == bits(made.column("sampled_logprobs"))
    assert found.column("token_ids").to_pylist() == made.column("token_ids").to_pylist()
    one = store.sql("FROM topk_of('1-1')").to_arrow_table()
    assert one.column("logprob").to_numpy().tobytes() == bits(made.column("logprobs"))[1]
    (file,) = store.snapshot().files["topk"]
    raw = pq.read_table(file)
    assert raw.column("token_ids").null_count == 4
    assert raw.column("logprobs").null_count == raw.column("numbers").is_valid().to_pylist().count(
        True
    )
    back = topk_codec.decode(raw, rank_choice.of_store(store.root))
    assert bits(back.column("logprobs")) == bits(made.column("logprobs"))


def test_a_tokenizer_has_one_rank_table_built_at_its_first_scoring(store: Store) -> None:
    store.commit({"topk": scored(3, 1)})
    (ranks,) = stored_ranks(store)
    store.commit({"topk": scored(3, 2)})
    # Another process takes the same one, and another policy of the same tokenizer does.
    second = policy("second") | {"vocab_size": VOCAB}
    again = Store.open(store.root)
    again.commit(
        {"policies": rows_of("policies", [second]), "topk": scored(2, 3, second["policy_id"])}
    )
    other = policy("other", tokenizer="another")
    again.commit({"policies": rows_of("policies", [other])})
    assert stored_ranks(store) == [ranks] and used_ranks(store) == {ranks}
    again.commit({"topk": scored(2, 4, other["policy_id"])})
    assert len(stored_ranks(store)) == 2 and used_ranks(store) == set(stored_ranks(store))


def test_rows_of_several_scorers_come_in_one_commit(store: Store) -> None:
    other = policy("other", tokenizer="another")
    both = pa.concat_tables([scored(2, 1), scored(2, 2, other["policy_id"]), scored(2, 3)])
    store.commit({"policies": rows_of("policies", [other]), "topk": both})
    found = store.sql("SELECT token_ids FROM topk ORDER BY rollout_id").to_arrow_table()
    assert found.column(0).to_pylist() == both.column("token_ids").to_pylist()
    assert len(used_ranks(store)) == 2


def test_an_unknown_scorers_ids_are_their_own_ranks(store: Store) -> None:
    store.commit({"topk": scored(2, 1, "nobody")})
    assert stored_ranks(store) == [] and used_ranks(store) == {None}
    found = store.sql("SELECT token_ids FROM topk ORDER BY rollout_id").to_arrow_table()
    assert found.column(0).to_pylist() == scored(2, 1).column("token_ids").to_pylist()


def test_rows_that_are_stored_already_bring_no_rank_table(store: Store) -> None:
    store.commit({"topk": scored(2, 1)})
    before = dict(store.snapshot().versions)
    assert Store.open(store.root).commit({"topk": scored(2, 1)}) == {"topk": 0}
    assert dict(store.snapshot().versions) == before


def test_the_sampled_token_alone_takes_no_rank_table(store: Store) -> None:
    made = scored(2, 1)
    empty = pa.array([[]] * 3, pa.list_(pa.int32()))
    names = made.column_names
    made = made.set_column(names.index("token_ids"), "token_ids", empty)
    made = made.set_column(names.index("logprobs"), "logprobs", empty.cast(pa.list_(pa.float32())))
    made = made.set_column(names.index("k"), "k", pa.array([0] * 3, pa.int32()))
    made = made.set_column(names.index("support"), "support", pa.array(["sampled"] * 3))
    store.commit({"topk": made})
    assert stored_ranks(store) == []
    found = store.sql("SELECT * FROM topk ORDER BY rollout_id").to_arrow_table()
    assert found.column("token_ids").to_pylist() == [[]] * 3
    assert bits(found.column("sampled_logprobs")) == bits(made.column("sampled_logprobs"))


def test_compaction_keeps_every_bit(store: Store) -> None:
    made = [scored(3, seed) for seed in range(4)]
    for part in made:
        store.commit({"topk": part})
    query = "SELECT token_ids, logprobs, sampled_logprobs FROM topk ORDER BY rollout_id"
    before = store.sql(query).fetchall()
    list(compact(store, ["topk"]))
    assert len(store.snapshot().files["topk"]) == 1
    assert store.sql(query).fetchall() == before


def test_a_missing_rank_table_is_named(store: Store) -> None:
    store.commit({"topk": scored(2, 1)})
    (file,) = store.snapshot().files["topk"]
    tables = rank_tables.RankTables(())
    with pytest.raises(StoreError, match="lacks the rank table"):
        topk_codec.decode(pq.read_table(file), tables)


@pytest.mark.parametrize("name", ["token_ids", "logprobs", "sampled_logprobs"])
def test_null_lists_are_refused(store: Store, name: str) -> None:
    made = scored(1, 1)
    at = made.column_names.index(name)
    null = made.set_column(at, name, pa.nulls(2, made.schema.field(name).type))
    with pytest.raises(InputError, match="topk"):
        store.commit({"topk": null})
    with pytest.raises(InputError, match="wrong columns"):
        store.commit({"topk": made.drop_columns([name])})


def test_row_groups_are_sized_by_what_reading_them_takes() -> None:
    plain = scored(4, 1)
    stored = topk_codec.encode(plain)
    entries_of = sum(len(ids) for ids in plain.column("token_ids").to_pylist())
    long = pa.table({"rank_codes": pa.array([bytes(1 << 20)] * 3, pa.binary())})
    assert parquet_writer.plain_bytes(long) == 3 * (8 << 20)
    assert parquet_writer.rows_per_group(long) == 1
    assert parquet_writer.plain_bytes(stored) >= 8 * entries_of


def test_every_leaf_is_compressed_at_its_level(tmp_path: Path) -> None:
    made = topk_codec.encode(table(entries([40], [16], 8, 7)))
    parquet_writer.write(tmp_path / "x.parquet", [made], made.schema)
    group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {c.compression for c in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["top_logprobs.list.element"].encodings
    assert "RLE_DICTIONARY" not in columns["rank_codes"].encodings
    assert columns["rank_codes"].statistics is None
    prompts = TABLES["prompts"].schema
    some = pa.schema([prompts.field("prompt_id"), prompts.field("messages")])
    assert set(parquet_writer.writer_options(some)["compression_level"]) == {
        "prompt_id",
        "messages.list.element.role",
        "messages.list.element.content",
        "messages.list.element.extra",
    }


def test_ragged_rows_come_back_and_unnest(store: Store) -> None:
    from s2d_store.encoding.topk_ragged import keep_mass

    made = keep_mass(scored(3, 1), 0.9)
    store.commit({"topk": made})
    found = store.sql("SELECT counts, token_ids FROM topk ORDER BY rollout_id").to_arrow_table()
    assert found.column(0).to_pylist() == made.column("counts").to_pylist()
    assert found.column(1).to_pylist() == made.column("token_ids").to_pylist()
    of_one = store.sql(
        "SELECT position, count(*)::SMALLINT FROM topk_of('1-0') GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    counts = made.column("counts")[0].as_py()
    assert [n for _, n in of_one] == counts and len(set(counts)) > 1
    assert np.array_equal([p for p, _ in of_one], np.arange(len(counts)))
