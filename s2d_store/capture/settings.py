"""The settings of `s2d capture`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from s2d_store import ids


@dataclass(frozen=True)
class Stored:
    """Rows: what the stored rollouts say of themselves. It travels with each exchange."""

    policy: str = ""
    """Name of the policy that answers; default: the model that a request names."""
    role: Literal["student", "teacher"] = "student"
    """student or teacher."""
    purpose: Literal["train", "eval"] = "train"
    """train or eval."""
    source: str = "captured"
    """Name of the prompts' data set."""
    split: str = "train"
    """Split of prompts that are new to the store."""
    logprobs: Literal["", "raw", "processed"] = ""
    """What the server's logprobs are: raw (temperature 1, whole vocabulary) or processed by the
    sampler; default: raw of a vLLM server and where a request makes both the same."""

    def default_run(self) -> str:
        """The run of requests that name none."""
        return f"capture-{ids.content_id(self.identity())[:8]}"

    def identity(self) -> dict[str, Any]:
        """What decides a run's rows, as its record holds it."""
        return {f.name: getattr(self, f.name) for f in fields(Stored)}


@dataclass(frozen=True)
class CaptureConfig(Stored):
    """One capture command."""

    upstream: str = ""
    """The server behind the proxy: http://localhost:8000."""
    port: int = 8266
    """Port on loopback; 0: any that is free."""
    run: str = ""
    """Run of requests that name none; default: derived from the settings."""
    ask_ids: bool = False
    """Ask the server for token ids and logprobs (vLLM) and leave out of the answer what the client
    did not ask for."""
    spool: str = ""
    """Folder for what is not stored yet; default: STORE.spool."""
    drain: bool = False
    """Store what the spool holds, and end."""

    @property
    def stored(self) -> Stored:
        """The settings that travel with each exchange."""
        return Stored(**self.identity())
