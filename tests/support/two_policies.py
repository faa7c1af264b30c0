"""A store of two policies on the same four prompts, told apart by hand; no model."""

from __future__ import annotations

from s2d_store.store import Store
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts
from tests.support.synthetic import NOW, VOCABULARY, policy, table

# Rewards by prompt, two samples each: `after` wins the second prompt, loses the third in part.
BEFORE = ((1, 1), (0, 0), (1, 1), (0, 0))
AFTER = ((1, 1), (1, 1), (1, 0), (0, 0))


def fill(store: Store) -> None:
    """`before` writes 4 tokens a rollout, `after` 8; the teacher scored `after`."""
    add_prompts(store, 4)
    add_policies(store, policy("before"), policy("after"), policy("teacher"))
    words = [
        {"tokenizer_fingerprint": "tok", "token_id": i, "token": f"w{i} "}
        for i in range(VOCABULARY)
    ]
    store.commit({"vocabularies": table("vocabularies", words)}, fresh=True)
    for name, rewards, tokens in (("before", BEFORE, 4), ("after", AFTER, 8)):
        made = [
            Made(prompt, sample, tokens, float(reward))
            for prompt, pair in enumerate(rewards)
            for sample, reward in enumerate(pair)
        ]
        scorer = "teacher" if name == "after" else ""
        add_rollouts(store, f"gen-{name}", name, made, purpose="eval", scorer=scorer)


def add_second_verifier(store: Store) -> None:
    """A verifier that calls every rollout of `before` right."""
    found = store.sql("SELECT rollout_id FROM rollouts WHERE run_id = 'gen-before'").fetchall()
    rows = [
        {
            "rollout_id": rollout,
            "verifier": "lenient",
            "verifier_version": "1",
            "reward": 1.0,
            "outcome": "correct",
            "extracted": "2",
            "detail": "",
            "seconds": 0.0,
            "run_id": "verify-lenient",
            "created_at": NOW,
        }
        for (rollout,) in found
    ]
    store.commit({"rewards": table("rewards", rows)}, fresh=True)
