"""What policy and teachers thought likeliest at one token: the moving part of a page."""

from __future__ import annotations

import math
from typing import Any

from viewer.page import Page
from viewer.params import Params
from viewer.snapshots import View

# Entries shown of a larger k; JSON has all.
SHOWN = 12


def at(view: View, rollout_id: str, position: int) -> dict[str, Any]:
    """Top-k of every scorer at a position of a response, the policy's own first.

    Each side: scorer, is_policy, support, k, sampled_logprob, entries (token_id, token, logprob,
    likeliest first) and tail, the probability outside of them.
    """
    rows = view.asked("topk_at", rollout=rollout_id, position=position)
    sides: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        side = sides.setdefault(
            (row["scorer"], row["support"], row["k"]),
            {
                **{key: row[key] for key in ("scorer", "is_policy", "support", "k")},
                "sampled_logprob": row["sampled_logprob"],
                "entries": [],
            },
        )
        side["entries"].append({key: row[key] for key in ("token_id", "token", "logprob")})
    for side in sides.values():
        mass = sum(math.exp(entry["logprob"]) for entry in side["entries"])
        side["tail"] = max(0.0, 1.0 - mass)
    return {"position": position, "sides": list(sides.values()), "shown": SHOWN}


def load(view: View, params: Params) -> dict[str, Any]:
    """The sides at the position that the path names; token_id is the one that was sampled."""
    rollout_id, position = params.text("rollout_id"), params.integer("position", 0)
    tokens = view.asked("rollout_tokens", rollout=rollout_id)
    here = [token for token in tokens if token["position"] == position]
    return {
        "topk": at(view, rollout_id, position),
        "token": here[0]["token"] if here else None,
        "token_id": here[0]["token_id"] if here else None,
    }


PAGE = Page("topk", "/rollout/{rollout_id}/topk/{position}", "", (), load)
