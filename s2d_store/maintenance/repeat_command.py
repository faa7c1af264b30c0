"""Command lines that repeat what a run's record tells of."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from s2d_store.config_identity import INVOCATION


def generate_command(run_id: str, policy: str, config: Mapping[str, Any]) -> str:
    """The generate command of a run's record."""
    asked = config.get(INVOCATION, {})
    verifier = asked.get("verifier", "")
    template = config.get("chat_template", "")
    return command_line(
        "generate",
        policy=policy,
        role=config["role"],
        run=run_id,
        n=asked.get("n", "N_AS_IT_WAS"),
        where=asked.get("where", ""),
        limit=asked.get("limit") or "",
        prompts_per_round=asked.get("prompts_per_round") or "",
        purpose=config["purpose"] if config["purpose"] != "train" else "",
        round=config["round"] or "",
        seed=config["seed"],
        top_logprobs=config["top_logprobs"] or "",
        max_tokens=config["max_tokens"],
        temperature=config["temperature"],
        top_p=config["top_p"],
        top_k=config["top_k"] or "",
        verify=bool(verifier),
        verifier=verifier,
        template="FILE_WITH_THE_TEMPLATE_OF_THE_RUN'S_CONFIG" if template else "",
        no_chat_template=config["no_chat_template"],
        **_engine_options(config),
    )


def score_command(scorer: str, config: Mapping[str, Any]) -> str:
    """The score command of a run's record."""
    asked = config.get(INVOCATION, {})
    support = config["support"]
    return command_line(
        "score",
        scorer=scorer,
        top_logprobs=config["k"] or "",
        support=support if support != "own" else "",
        where=asked.get("where", ""),
        **_engine_options(config),
    )


def _engine_options(config: Mapping[str, Any]) -> dict[str, Any]:
    asked = config.get(INVOCATION, {})
    return {
        "engine": config["engine"] if config["engine"] != "transformers" else "",
        "engine_arg": [f"{key}={json.dumps(v)}" for key, v in asked.get("engine_args", {}).items()],
        "dtype": config["dtype"] if config["dtype"] != "auto" else "",
        "batch_size": asked.get("batch_size", ""),
        "chunk": asked.get("chunk_rows", ""),
        "max_model_len": asked.get("max_model_len") or "",
        "skip_too_long": asked.get("skip_too_long", False),
    }


def command_line(head: str, **options: Any) -> str:
    """A command line; options that are empty, null or false are left out."""
    words = ["s2d", head]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, list) and value and not isinstance(value[0], str):
            words += [flag, *map(str, value)]
        elif isinstance(value, list):
            flag = flag.removesuffix("s")
            words += [word for item in value for word in (flag, shlex.quote(str(item)))]
        elif value is not None and value is not False and value != "":
            words += [flag, shlex.quote(str(value))]
    return " ".join(words)
