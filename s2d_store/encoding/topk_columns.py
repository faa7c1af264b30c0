"""What top-k takes in files, declared: columns, the table of rank tables, Parquet settings."""

from __future__ import annotations

import pyarrow as pa

# name, type, what it holds, whether null is allowed; see docs/format3-topk.md
COUNTS = (
    "counts",
    pa.list_(pa.int16()),
    "T: entries at each token; null = k each",
    True,
)

FILES_ALONE: tuple[tuple[str, pa.DataType, str, bool], ...] = (
    ("ranks_id", pa.string(), "rank table of its ids; null: every id is its rank", True),
    ("rank_codes", pa.binary(), "a byte for each entry: its rank, or the high part of it", True),
    ("rank_lows", pa.binary(), "low bytes of the ranks whose code is 64 to 254", True),
    ("far_ids", pa.list_(pa.int32()), "ids without a rank, whose code is 255", True),
    (
        "top_logprobs",
        pa.list_(pa.float32()),
        "T: what a token's steps count from: its largest, or above",
        True,
    ),
    ("logit_unit", pa.float32(), "nats, a power of two, above 2^-12 where rounded", True),
    ("unit_exponents", pa.binary(), "T bytes: a token's unit is logit_unit * 2^this", True),
    ("descending", pa.bool_(), "numbers are gaps between entries, else steps below the top", True),
    ("numbers", pa.binary(), "a number for each entry: gaps of 2 bits, or steps of 8", True),
    ("large_numbers", pa.list_(pa.int32()), "numbers that stand as 3 (2 bits) or 255 (8)", True),
    (
        "exact_entries",
        pa.list_(pa.struct([("entry", pa.int32()), ("logprob", pa.float32())])),
        "entries that steps do not return bit for bit",
        True,
    ),
    ("sampled_steps", pa.list_(pa.int32()), "T: the sampled token's steps below the top", True),
)

TOKEN_RANKS = (
    ("ranks_id", pa.string(), "hash of token_ids"),
    ("tokenizer_fingerprint", pa.string(), "the tokenizer whose ids these are"),
    ("token_ids", pa.list_(pa.int32()), "ids by rank, from the most frequent down"),
    ("created_at", pa.timestamp("us", tz="UTC"), "when it was built"),
)

# Level 3 takes longer and saves nothing: these bytes repeat nothing that zstd could find.
ZSTD_LEVEL = 1
NAMES = frozenset(name for name, *_ in FILES_ALONE)


def writer_options(schema: pa.Schema, options: dict[str, object]) -> dict[str, object]:
    """Options for `pq.ParquetWriter`, with those of the columns above.

    Args:
        schema: of the rows to write.
        options: `s2d_store.parquet.writer_options(schema)`.

    Returns:
        lists of numbers as elsewhere, binary values plain: no dictionary, and no statistics, which
        would copy whole values into the footer; zstd level 1 for both.
    """
    levels, statistics = options["compression_level"], options["write_statistics"]
    assert isinstance(levels, dict)
    assert isinstance(statistics, list)
    return options | {
        "compression_level": {
            leaf: ZSTD_LEVEL if leaf.split(".")[0] in NAMES else level
            for leaf, level in levels.items()
        },
        "write_statistics": [
            name for name in statistics if not pa.types.is_binary(schema.field(name).type)
        ],
    }
