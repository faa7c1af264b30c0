"""One of n parts of a command's work: disjoint by rollout id, whatever the others do."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from s2d_store.errors import InputError

SLURM = "slurm"
_FORM = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, from 0."""

    index: int
    count: int

    def holds(self, key: str) -> bool:
        """Whether an id belongs to this part; ids spread evenly over the parts."""
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard | None:
    """The part that a command is to do; None for all of it.

    Args:
        text: `i/n` with i from 0, `slurm` for the place in a Slurm job array, or nothing.
        environment: of the process.

    Raises:
        InputError: it is neither, i is not below n, or this is no job of an array.
    """
    if not text:
        return None
    if text == SLURM:
        return _of_slurm(environment)
    match = _FORM.fullmatch(text)
    if match is None or int(match[1]) >= int(match[2]):
        raise InputError(
            f"--shard {text!r} is not i/n with i below n",
            "n processes take --shard 0/n to --shard n-1/n",
            "--shard 0/8, or --shard slurm in a job array",
        )
    return Shard(int(match[1]), int(match[2]))


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    """An array may start at any number and go in steps: --array=1-15:2 has 8 tasks."""
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP")]
    values = [environment.get(name, "") for name in names]
    step = values[3] or "1"
    if not all(value.isdigit() for value in (*values[:3], step)) or int(step) == 0:
        raise InputError(
            "--shard slurm finds no job array",
            f"{', '.join(names[:3])} are not set",
            "sbatch --array=0-7, or --shard i/n",
        )
    index, count = (int(values[0]) - int(values[2])) // int(step), int(values[1])
    if index >= count:
        raise InputError(
            f"task {values[0]} is not one of {count} of its job array",
            f"the array begins at {values[2]} and goes in steps of {step}",
            "leave none of the array's tasks out, or use --shard i/n",
        )
    return Shard(index, count)
