"""Engine arguments of `server`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import get_type_hints

from s2d_store.engines.server_identity import DIALECTS
from s2d_store.errors import InputError, did_you_mean

# Where the key is read from, unless `key_env` names another variable.
KEY_VARIABLE = "S2D_API_KEY"


@dataclass(frozen=True)
class ServerArgs:
    """Engine arguments of `server`, as `--engine-arg NAME=VALUE` gives them.

    Attributes:
        server: vllm, sglang, trl or openai; empty: find out.
        model: which of the models that the endpoints serve; empty: the only one.
        in_flight: requests under way over all endpoints.
        timeout_s: until an answer has to be there.
        attempts: how often an answer may be lost or wrong before its rollout is left out.
        wait_s: how long to wait while no endpoint answers.
        key_env: variable of the environment with the key.
    """

    server: str = ""
    model: str = ""
    in_flight: int = 256
    timeout_s: float = 3600.0
    attempts: int = 5
    wait_s: float = 120.0
    key_env: str = KEY_VARIABLE

    @classmethod
    def read(cls, given: Mapping[str, object]) -> ServerArgs:
        """Check names, types and ranges.

        Raises:
            InputError: naming the argument.
        """
        known, hints = {f.name for f in fields(cls)}, get_type_hints(cls)
        for name, value in given.items():
            if name not in known:
                raise InputError(
                    f"engine server has no argument {name!r}{did_you_mean(name, known)}",
                    f"arguments: {', '.join(sorted(known))}",
                    "correct --engine-arg",
                )
            number = hints[name] in (int, float)
            wanted = (int, float) if hints[name] is float else hints[name]
            wrong = isinstance(value, bool) or not isinstance(value, wanted)
            if wrong or (number and not value > 0):  # type: ignore[operator]
                raise InputError(
                    f"engine argument {name}={value!r} is not usable",
                    f"it is {'a number above 0' if number else 'a text'}",
                    "correct --engine-arg",
                )
        args = cls(**given)  # type: ignore[arg-type]
        if args.server and args.server not in DIALECTS:
            raise InputError(
                f"engine argument server={args.server!r} is unknown",
                f"servers: {', '.join(DIALECTS)}",
            )
        return args
