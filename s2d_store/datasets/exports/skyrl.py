"""`skyrl`: Parquet of distinct prompts, for SkyRL's trainer: env_class and reward_spec.

For its SFT, which reads input_ids and loss_mask, export as tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.prompts import MESSAGES, prompts, write_parquet
from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import InputError
from s2d_store.messages import Message
from s2d_store.store import Store

SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", MESSAGES),
        ("env_class", pa.string()),
        ("reward_spec", pa.struct([("method", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("index", pa.int64()), ("prompt_id", pa.string())])),
    ]
)


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """One Parquet file, one row per distinct prompt in the order of first use; see `Write`.

    Raises:
        InputError: no environment is named.
    """
    if not options.env_class:
        raise InputError(
            "format skyrl needs --env-class",
            "SkyRL runs each prompt in an environment of that name",
            "--env-class gsm8k, or the name that your environment is registered under",
        )
    written = Written()

    def rows() -> Iterator[tuple[list[Message], dict[str, Any]]]:
        for prompt in prompts(store, dataset, options, written):
            yield (
                prompt.messages,
                {
                    "data_source": options.data_source or prompt.source,
                    "prompt": prompt.messages,
                    "env_class": options.env_class,
                    "reward_spec": {"method": "rule", "ground_truth": prompt.answer or ""},
                    "extra_info": {"index": prompt.first, "prompt_id": prompt.prompt_id},
                },
            )

    written.rows, refused = write_parquet(draft, SCHEMA, rows())
    written.drop("other_fields", refused)
    return written


EXPORTER = Exporter(
    "skyrl",
    "distinct prompts with env_class and reward_spec, for SkyRL",
    write,
    options=("env_class", "data_source", "unlabelled", "instruction"),
)
