"""The codec of top-k under hypothesis: whatever a row holds, Python and SQL return every bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import queries
from s2d_store.encoding import topk_codec, topk_ranks, topk_sql
from s2d_store.encoding.list_columns import list_array, numpy_dtype
from s2d_store.encoding.topk_ragged import keep_mass
from s2d_store.encoding.topk_steps import UNITS

QUERY = queries.ROOT / "raw" / "topk.sql"
VISIBLE = ("token_ids", "logprobs", "sampled_logprobs")

# Every float32: NaN of any payload, infinities, denormals, both zeros.
ANY = st.integers(0, 2**32 - 1)
ODD = st.sampled_from([0.0, -0.0, -np.inf, np.inf, np.nan, -1e-45, -3.4e38]).map(
    lambda value: int(np.float32(value).view(np.uint32))
)
IDS = st.one_of(
    st.integers(0, 300),
    st.integers(0, 60_000),
    st.sampled_from([-1, -(2**31), 2**31 - 1, 48_959, 48_960]),
)
TABLES = topk_ranks.from_rows(
    pa.concat_tables(
        topk_ranks.to_rows(topk_ranks.named(np.array(ids, np.int32)), "tokenizer")
        for ids in (np.arange(5_000)[::-1], np.random.default_rng(0).permutation(50_000), [7, 3])
    )
)


@dataclass
class Row:
    """One row: k, entries at each token or None, and its lists."""

    k: int
    counts: list[int] | None
    ids: np.ndarray
    logprobs: np.ndarray
    sampled: np.ndarray


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """A row on a grid or not, descending or not, ragged or not, with foreign values or not."""
    k, n_tokens = draw(st.sampled_from([0, 1, 2, 3, 4, 7, 16])), draw(st.integers(0, 5))
    counts = [k] * n_tokens
    ragged = k > 0 and draw(st.booleans())
    if ragged:
        counts = draw(st.lists(st.integers(1, k), min_size=n_tokens, max_size=n_tokens))
    size = sum(counts)
    ids = np.array(draw(st.lists(IDS, min_size=size, max_size=size)), np.int64).astype(np.int32)
    kind = draw(st.sampled_from(["grid", "grid", "spoilt", "any"]))
    if kind == "any":
        values = floats(draw(st.lists(ANY, min_size=size, max_size=size)))
        sampled = floats(draw(st.lists(ANY, min_size=n_tokens, max_size=n_tokens)))
        return Row(k, counts if ragged else None, ids, values, sampled)
    unit = np.float32(draw(st.sampled_from([2.0**-3, 2.0**-7, *UNITS, 2.0**-20])))
    tops = draw(st.lists(st.floats(-40, 0, width=32), min_size=n_tokens, max_size=n_tokens))
    descending = draw(st.booleans())
    parts = [np.zeros(0, np.float32)]
    for top, count in zip(tops, counts, strict=True):
        steps = draw(
            st.lists(
                st.one_of(st.integers(0, 4), st.integers(0, 2**12), st.integers(0, 2**25)),
                min_size=count,
                max_size=count,
            )
        )
        steps = sorted(steps) if descending else steps
        parts.append(np.float32(top) - np.array(steps, np.float32) * unit)
    values = np.concatenate(parts).astype(np.float32)
    below = draw(st.lists(st.integers(-5, 2**12), min_size=n_tokens, max_size=n_tokens))
    sampled = np.array(tops, np.float32) - np.array(below, np.float32) * unit
    for spoilt in (values, sampled) if kind == "spoilt" else ():
        if len(spoilt):
            at = draw(st.integers(0, len(spoilt) - 1))
            spoilt.view(np.uint32)[at] = draw(st.one_of(ODD, ANY))
    return Row(k, counts if ragged else None, ids, values, sampled.astype(np.float32))


def floats(bits: list[int]) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32)


def table(made: list[Row]) -> pa.Table:
    return pa.table(
        {
            "rollout_id": [f"{i:04d}" for i in range(len(made))],
            "k": pa.array([row.k for row in made], pa.int32()),
            "counts": pa.array([row.counts for row in made], pa.list_(pa.int16())),
            "token_ids": list_array([row.ids for row in made], pa.int32()),
            "logprobs": list_array([row.logprobs for row in made], pa.float32()),
            "sampled_logprobs": list_array([row.sampled for row in made], pa.float32()),
        }
    )


def bits(column: pa.ChunkedArray) -> list[bytes | None]:
    """Bytes of each list: NaN are compared too."""
    dtype = numpy_dtype(column.type.value_type)
    return [
        None if value.as_py() is None else np.asarray(value.values, dtype).tobytes()
        for chunk in column.chunks
        for value in chunk
    ]


def assert_same(found: pa.Table, wanted: pa.Table) -> None:
    for name in VISIBLE:
        assert bits(found.column(name)) == bits(wanted.column(name)), name


def select() -> str:
    text = QUERY.read_text()
    for missing in (
        "scorer_policy_id, support, ",
        ",\n    run_id, created_at::TIMESTAMP AS created_at",
    ):
        assert missing in text
        text = text.replace(missing, "")
    return text


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    made = duckdb.connect(config={"threads": 1})
    topk_sql.register(made, TABLES.__getitem__)
    yield made
    made.close()


RANKS = st.sampled_from(list(TABLES.values()))


@settings(max_examples=400, deadline=None)
@given(st.lists(rows(), max_size=6), RANKS, st.data())
def test_every_bit_comes_back(
    made: list[Row], ranks: topk_ranks.RankTable, data: st.DataObject
) -> None:
    plain = table(made)
    stored = topk_codec.encode(plain, ranks)
    assert stored.column("token_ids").null_count == len(made)
    for one, other in (("numbers", "logprobs"), ("sampled_steps", "sampled_logprobs")):
        if one == "numbers":
            pairs = zip(stored.column(one).is_valid(), stored.column(other).is_valid(), strict=True)
            assert all(a.as_py() != b.as_py() for a, b in pairs)
    found = topk_codec.decode(stored, TABLES)
    assert found.column_names == plain.column_names
    assert_same(found, plain)
    start = data.draw(st.integers(0, len(made)))
    length = data.draw(st.integers(0, len(made) - start))
    assert_same(topk_codec.decode(stored.slice(start, length), TABLES), plain.slice(start, length))


@settings(max_examples=150, deadline=None)
@given(made=st.lists(rows(), min_size=1, max_size=6), ranks=RANKS)
def test_sql_decodes_what_python_decodes(
    con: duckdb.DuckDBPyConnection, made: list[Row], ranks: topk_ranks.RankTable
) -> None:
    plain = table(made)
    con.register("files", topk_codec.encode(plain, ranks))
    found = con.sql(f"{select()} ORDER BY rollout_id").to_arrow_table()
    con.unregister("files")
    assert_same(found, plain)


@settings(max_examples=100, deadline=None)
@given(st.lists(rows(), min_size=1, max_size=4), st.sampled_from([0.25, 0.9, 0.999, 1.0]))
def test_what_reaches_a_mass_is_kept_exactly(made: list[Row], mass: float) -> None:
    plain = table(made)
    kept = keep_mass(plain, mass)
    assert_same(topk_codec.decode(topk_codec.encode(kept), TABLES), kept)
    for before, after in zip(made, kept.to_pylist(), strict=True):
        counts = before.counts or [before.k] * len(before.sampled)
        left = after["counts"] or counts
        a = b = 0
        for size, n in zip(counts, left, strict=True):
            assert min(1, size) <= n <= size
            pairs = list(
                zip(before.ids[a : a + size], bytes_of(before.logprobs[a : a + size]), strict=True)
            )
            own = list(
                zip(
                    after["token_ids"][b : b + n],
                    bytes_of(after["logprobs"][b : b + n]),
                    strict=True,
                )
            )
            position = iter(pairs)
            assert all(pair in position for pair in own), "in their order"
            own_logprobs = before.logprobs[a : a + size].astype(np.float64)
            probs = np.exp(np.minimum(np.where(np.isnan(own_logprobs), -np.inf, own_logprobs), 1))
            likeliest = np.sort(probs)[::-1]
            if 0 < n < size:
                assert likeliest[:n].sum() >= mass or np.isclose(likeliest[:n].sum(), mass)
                assert n == 1 or likeliest[: n - 1].sum() < mass + 1e-12
            a, b = a + size, b + n


def bytes_of(values: object) -> list[bytes]:
    return [value.tobytes() for value in np.asarray(values, np.float32)]


def model_rows(n_tokens: int, k: int, low_bits: int, seed: int = 0) -> pa.Table:
    """One row of a model's top k: float32 log-softmax of logits that have lost `low_bits`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(8, 3, (n_tokens, 2_000)).astype(np.float32)
    logits = (logits.view(np.uint32) & np.uint32((1 << 32) - (1 << low_bits))).view(np.float32)
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :k].astype(np.int32)
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    logprobs = (logits - top) - total
    sampled = logprobs[np.arange(n_tokens), rng.integers(0, 2_000, n_tokens)]
    return table(
        [Row(k, None, ids, np.take_along_axis(logprobs, ids.astype(np.int64), 1), sampled)]
    )


@pytest.mark.parametrize(("low_bits", "in_steps"), [(16, True), (13, True), (0, False)])
def test_rounded_logits_are_in_steps_and_float32_logits_are_not(
    low_bits: int, in_steps: bool
) -> None:
    plain = model_rows(50, 20, low_bits)
    stored = topk_codec.encode(plain)
    assert stored.column("numbers").is_valid()[0].as_py() == in_steps
    assert_same(topk_codec.decode(stored, TABLES), plain)


def test_one_infinity_among_many_entries_is_kept_by_itself() -> None:
    plain = model_rows(50, 20, 16)
    values = np.asarray(plain.column("logprobs").chunk(0).values).copy()
    values[[19, 39, 419]] = -np.inf, -1e30, -np.inf
    changed = plain.set_column(4, "logprobs", list_array([values], pa.float32()))
    stored = topk_codec.encode(changed)
    exact = stored.column("exact_entries").to_pylist()[0]
    assert [entry["entry"] for entry in exact] == [19, 39, 419]
    assert_same(topk_codec.decode(stored, TABLES), changed)


def test_rows_that_lack_the_likeliest_token_are_in_steps_too() -> None:
    own = model_rows(60, 400, 16)
    ids, values = (np.asarray(own.column(n).chunk(0).values) for n in ("token_ids", "logprobs"))
    order = np.random.default_rng(0).permuted(np.tile(np.arange(50, 400), (60, 1)), axis=1)
    order = (order + 400 * np.arange(60)[:, None]).reshape(-1)
    sampled = np.asarray(own.column("sampled_logprobs").chunk(0).values)
    plain = table([Row(350, None, ids[order], values[order], sampled)])
    stored = topk_codec.encode(plain)
    assert stored.column("descending").to_pylist() == [False]
    tops = np.asarray(stored.column("top_logprobs").chunk(0).values)
    largest = values[order].reshape(60, 350).max(axis=1)
    assert (tops > largest).any(), "a reference was found above what was rounded"
    exact = stored.column("exact_entries").to_pylist()[0] or []
    assert len(exact) < len(ids) / 100
    assert_same(topk_codec.decode(stored, TABLES), plain)


SQL_ALONE = """
import sys, duckdb
import pyarrow.parquet as pq
from s2d_store.encoding import topk_ranks, topk_sql
con = duckdb.connect()
topk_sql.register(con, lambda name: topk_ranks.IDENTITY)
made = con.execute('''SELECT topk_token_ids(ranks_id, rank_codes, rank_lows, far_ids),
    topk_logprobs(logprobs, k, counts, top_logprobs, logit_unit, descending, unit_exponents,
        numbers, large_numbers, exact_entries) FROM read_parquet($file)''',
    {"file": sys.argv[1]}).fetchall()
assert len(made[0][0]) == len(made[0][1]) == 350, made
assert "pandas" not in sys.modules
"""


def test_sql_loads_no_pandas_and_leaves_nothing_open(tmp_path: Path) -> None:
    pq.write_table(topk_codec.encode(model_rows(50, 7, 16)), tmp_path / "rows.parquet")
    command = [sys.executable, "-c", SQL_ALONE, str(tmp_path / "rows.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # The connection is left open: DuckDB would complain of its functions when Python ends.
    assert (done.returncode, done.stderr) == (0, "")


def test_rows_of_several_rank_tables_and_batches(tmp_path: Path) -> None:
    parts = [model_rows(30, 7, 16, seed) for seed in range(4)]
    stored = [
        topk_codec.encode(part, ranks) for part, ranks in zip(parts, TABLES.values(), strict=False)
    ]
    whole = pa.concat_tables(stored)
    assert_same(topk_codec.decode(whole, TABLES), pa.concat_tables(parts[: len(stored)]))
    pq.write_table(whole, tmp_path / "rows.parquet", row_group_size=2)
    back = pq.read_table(tmp_path / "rows.parquet")
    assert_same(topk_codec.decode(back, TABLES), pa.concat_tables(parts[: len(stored)]))


@pytest.mark.parametrize("wanted", [["token_ids"], ["logprobs"], ["sampled_logprobs", "k"]])
def test_some_columns_are_decoded_alone(wanted: list[str]) -> None:
    plain = model_rows(30, 7, 16)
    stored = topk_codec.encode(plain)
    names = topk_codec.stored_columns(wanted, stored.column_names)
    assert set(names) < set(stored.column_names)
    found = topk_codec.decode(stored.select(names), TABLES)
    for name in set(wanted) & set(VISIBLE):
        assert bits(found.column(name)) == bits(plain.column(name))
    assert topk_codec.stored_columns(wanted, plain.column_names) == wanted


def test_no_rows_have_the_columns_too() -> None:
    none = table([]).cast(table([Row(1, [1], *[np.zeros(1, t) for t in "iff"])]).schema)
    stored = topk_codec.encode(none)
    assert set(topk_codec.COLUMNS) < set(stored.column_names)
    assert topk_codec.decode(stored, TABLES).schema == none.schema
    assert keep_mass(none, 0.9).num_rows == 0


def spoilt(column: str, change: Callable[[pa.Array], pa.Array]) -> pa.Table:
    stored = topk_codec.encode(model_rows(30, 7, 16)).combine_chunks()
    at = stored.column_names.index(column)
    return stored.set_column(at, column, change(stored.column(column).chunk(0)))


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("rank_lows", lambda c: pa.array([c[0].as_py()[:-1]], c.type)),
        ("numbers", lambda c: pa.array([c[0].as_py() + b"1"], c.type)),
        ("large_numbers", lambda c: pa.array([[*c[0].as_py(), 3]], c.type)),
    ],
)
def test_columns_that_contradict_each_other_are_refused(
    column: str, change: Callable[[pa.Array], pa.Array]
) -> None:
    with pytest.raises(ValueError, match=column):
        topk_codec.decode(spoilt(column, change), TABLES)


def test_a_mass_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mass of 1\.5"):
        keep_mass(model_rows(3, 4, 16), 1.5)
