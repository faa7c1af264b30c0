"""`python -m trainers KIND ...`: one training run, without a store.

python -m trainers opd --dataset FOLDER --student FOLDER --output FOLDER
accelerate launch -m trainers opd ...
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from s2d_store.errors import S2DError
from trainers import registry
from trainers.config_options import parse_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Read a config from the command line, train, print where the model is."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(f"usage: python -m trainers {{{','.join(registry.names())}}} ...  (KIND --help)")
        return 0 if given else 2
    try:
        trainer = registry.find(given[0])
        config = parse_config(trainer.config, f"python -m trainers {trainer.name}", given[1:])
        result = trainer.load()(config, _print_update)
    except S2DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{result.updates} updates, {result.response_tokens} tokens: {result.final}")
    return 0


def _print_update(record: Mapping[str, Any]) -> None:
    kl = f"kl {record['kl']:.4f}  " if "kl" in record else ""
    print(
        f"update {record['update']}  loss {record['loss']:.4f}  {kl}"
        f"grad {record['grad_norm']:.3f}  lr {record['lr']:.2e}  {record['seconds']:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
