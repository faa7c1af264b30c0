"""Compare stored top-k logprobs (vLLM's) with the transformers engine's on the same tokens.

    python examples/gsm8k/compare_engines.py --store runs/gsm8k/store --model runs/gsm8k/teacher

How much may two engines differ? The transformers engine scores in float32 and in bfloat16: the
distance between its own two results is what bfloat16 alone does, and the yardstick.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from s2d_store.encoding.topk import TopK, from_columns
from s2d_store.engines.base import ScoreRequest
from s2d_store.engines.registry import open_engine
from s2d_store.store import Store

ROLLOUTS = """
SELECT r.rollout_id, r.prompt_token_ids, r.response_token_ids, t.k, t.token_ids, t.logprobs,
    t.sampled_logprobs, s.config
FROM rollouts AS r
INNER JOIN topk AS t USING (rollout_id)
INNER JOIN runs AS s ON t.run_id = s.run_id
WHERE t.support = 'own'
ORDER BY r.rollout_id
LIMIT $n
"""


def rescore(model: Path, requests: list[ScoreRequest], k: int, dtype: str) -> dict[str, TopK]:
    """The same rollouts by the transformers engine."""
    engine = open_engine("transformers", str(model), top_logprobs=k, dtype=dtype)
    try:
        return dict(engine.score(requests, k))
    finally:
        engine.close()


def compare(first: TopK, second: TopK) -> dict[str, np.ndarray]:
    """Per token: same likeliest id, share of common ids, mass-weighted and largest difference of
    logprobs on common ids of the first ten, difference of the sampled token's logprob; float (T,).
    """
    same_TKK = first.token_ids[:, :, None] == second.token_ids[:, None, :]
    common_TK, where_TK = same_TKK.any(2), same_TKK.argmax(2)
    matched_TK = np.take_along_axis(second.logprobs, where_TK, 1)
    gap_TK = np.where(common_TK, np.abs(first.logprobs - matched_TK), 0.0)
    weight_TK = np.exp(first.logprobs)
    return {
        "top-1 agrees": same_TKK[:, 0, 0].astype(float),
        "ids in common": common_TK.mean(1),
        "mean |d logprob|, by mass": (gap_TK * weight_TK).sum(1) / weight_TK.sum(1),
        "largest of the first 10": gap_TK[:, :10].max(1),
        "|d logprob| of the sampled": np.abs(first.sampled_logprobs - second.sampled_logprobs),
    }


def main() -> None:
    """Read, score twice, compare three pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rollouts", type=int, default=16)
    args = parser.parse_args()

    table = Store.open(args.store).sql(ROLLOUTS, {"n": args.rollouts}).to_arrow_table()
    ids = table.column("rollout_id").to_pylist()
    stored = dict(zip(ids, from_columns(table), strict=True))
    requests = [
        ScoreRequest(
            row["rollout_id"], row["prompt_token_ids"], np.array(row["response_token_ids"])
        )
        for row in table.select(
            ["rollout_id", "prompt_token_ids", "response_token_ids"]
        ).to_pylist()
    ]
    k = int(table.column("k")[0].as_py())
    config = json.loads(table.column("config")[0].as_py())
    results = {f"{config['engine']} {config['dtype']}, stored": stored}
    for dtype in ("float32", "bfloat16"):
        results[f"transformers {dtype}"] = rescore(args.model, requests, k, dtype)

    names = list(results)
    pairs = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    tokens = sum(len(entry.sampled_logprobs) for entry in stored.values())
    print(f"{len(ids)} rollouts, {tokens:,} tokens, k = {k}; mean over tokens (99th percentile)")
    for first, second in pairs:
        parts = [compare(results[first][i], results[second][i]) for i in ids]
        print(f"{first} against {second}")
        for measure in parts[0]:
            values = np.concatenate([part[measure] for part in parts])
            print(f"  {measure:<28}{values.mean():9.4f}  ({np.quantile(values, 0.99):.4f})")


if __name__ == "__main__":
    main()
