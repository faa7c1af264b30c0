"""Settings of `s2d import`. The string under a field is its option's help, in docs too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """One import command."""

    format: str = "auto"
    """A format's name, or auto."""
    paths: tuple[str, ...] = ()
    """Files and folders."""
    policy: str = ""
    """Name of the policy that sampled; default: the model that the file names."""
    tokenizer: str = ""
    """Registered policy whose tokenizer the ids are of; texts without ids are re-tokenised."""
    role: Literal["student", "teacher"] = "student"
    """student or teacher."""
    purpose: Literal["", "train", "eval"] = ""
    """train or eval; default: as the file says."""
    source: str = ""
    """Name of the prompts' data set; default: the format's name."""
    split: str = "train"
    """Split of prompts that are new to the store."""
    logprobs: Literal["", "raw", "processed"] = ""
    """What the file's logprobs are: raw (temperature 1, whole vocabulary) or processed by the
    sampler; default: as the format's writer has them."""
    temperature: float | None = None
    """Sampling temperature, where the file does not say."""
    top_p: float | None = None
    """Nucleus mass, where the file does not say."""
    top_k: int | None = None
    """Sampling top-k (0: off), where the file does not say."""
    max_tokens: int | None = None
    """Limit on response tokens, where the file does not say."""
    map: tuple[str, ...] = ()
    """FIELD=PATH of format map: prompt=problem, text=generations. May be repeated."""
    rejects: str = ""
    """File for rows that could not be held; default: RUN-rejects.jsonl in this folder."""
    chunk_rows: int = 16384
    """Rollouts per commit."""
    plan: bool = False
    """Read and check everything, show what would be stored, and store nothing."""
