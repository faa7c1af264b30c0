"""Steps under hypothesis: whatever float32 values a row holds, NumPy and SQL return every bit."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import queries
from s2d_store.encoding import logit_steps
from s2d_store.encoding.list_columns import flat_lists, list_array

# Every float32: NaN of any payload, infinities, denormals, both zeros.
ANY = st.integers(0, 2**32 - 1)
ODD = st.sampled_from([0.0, -0.0, -np.inf, np.inf, np.nan, -1e-45, -3.4e38]).map(
    lambda value: int(np.float32(value).view(np.uint32))
)
UNITS = st.sampled_from([2.0**-3, 2.0**-7, *logit_steps.UNITS, 2.0**-20])


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    """A row's k and its T*k logprobs: on a grid, or not, or with a foreign value among them."""
    k, n_tokens = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    size = k * n_tokens
    kind = draw(st.sampled_from(["grid", "grid", "spoilt", "any"]))
    if kind == "any":
        bits = draw(st.lists(ANY, min_size=size, max_size=size))
        return k, np.array(bits, np.uint32).view(np.float32)
    tops = draw(st.lists(st.floats(-40, 0, width=32), min_size=n_tokens, max_size=n_tokens))
    below = draw(st.lists(st.integers(-8, 2**15), min_size=size, max_size=size))
    unit = np.float32(draw(UNITS))
    gaps_TK = np.array(below, np.float32).reshape(n_tokens, k) * unit
    gaps_TK[:, :1] = 0
    values = (np.array(tops, np.float32).reshape(n_tokens, 1) - gaps_TK).reshape(-1)
    if kind == "spoilt" and size:
        at = draw(st.integers(0, size - 1))
        values.view(np.uint32)[at] = draw(st.one_of(ODD, ANY))
    return k, values


def table(made: list[tuple[int, np.ndarray]]) -> pa.Table:
    return pa.table(
        {
            "i": pa.array(range(len(made)), pa.int32()),
            "k": pa.array([k for k, _ in made], pa.int32()),
            "logprobs": list_array([values for _, values in made], pa.float32()),
        }
    )


def assert_same(found: pa.ChunkedArray, wanted: pa.ChunkedArray) -> None:
    for one, other in zip(flat_lists(found), flat_lists(wanted), strict=True):
        assert one.tobytes() == other.tobytes()


@settings(max_examples=300, deadline=None)
@given(st.lists(rows(), max_size=6), st.data())
def test_numpy_gives_back_every_bit(
    made: list[tuple[int, np.ndarray]], data: st.DataObject
) -> None:
    plain = table(made)
    stored = logit_steps.encode(plain)
    assert_same(logit_steps.decode(stored).column("logprobs"), plain.column("logprobs"))
    in_steps, kept = (stored.column(n).is_valid() for n in ("logit_steps", "logprobs"))
    assert all(a.as_py() != b.as_py() for a, b in zip(in_steps, kept, strict=True))
    start = data.draw(st.integers(0, len(made)))
    part = slice(start, data.draw(st.integers(start, len(made))))
    some = stored.slice(part.start, part.stop - part.start)
    wanted = plain.slice(part.start, part.stop - part.start)
    assert_same(logit_steps.decode(some).column("logprobs"), wanted.column("logprobs"))


@settings(max_examples=100, deadline=None)
@given(st.lists(rows(), min_size=1, max_size=6))
def test_sql_gives_back_every_bit(made: list[tuple[int, np.ndarray]]) -> None:
    plain = table(made)
    con = duckdb.connect()
    con.execute("CREATE SCHEMA raw")
    for macro in queries.raw_macros():
        con.execute(macro)
    con.register("stored", logit_steps.encode(plain))
    found = con.sql(
        f"SELECT raw.topk_logprobs(logprobs, {', '.join(logit_steps.COLUMNS)}, k) AS logprobs "
        "FROM stored ORDER BY i"
    ).to_arrow_table()
    assert_same(found.column("logprobs"), plain.column("logprobs"))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.sampled_from([2.0**-3, *logit_steps.UNITS]))
def test_what_lies_on_a_grid_is_in_steps(k: int, unit: float) -> None:
    gaps_TK = np.arange(3 * k, dtype=np.float32).reshape(3, k) * np.float32(unit)
    gaps_TK -= gaps_TK[:, :1]
    values = (np.array([[-1.5], [-0.25], [0]], np.float32) - gaps_TK).reshape(-1)
    assert logit_steps.encode(table([(k, values)])).column("logit_steps").null_count == 0
