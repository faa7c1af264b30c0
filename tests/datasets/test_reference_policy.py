"""A reference policy's logprobs in a GRPO dataset: for the KL term of the paper's Table 9."""

from __future__ import annotations

import pytest

from s2d_store.accounting.policy_cost import policy_costs
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import DatasetError
from s2d_store.store import Store
from tests.support import half_split
from tests.support.dataset_rows import add_rollouts, built, trained
from tests.support.half_split import GRPO, groups


@pytest.fixture
def split(store: Store) -> Store:
    half_split.fill(store)
    add_rollouts(store, "gen-r", "bridge", groups(range(32, 40)), scorer="warmed")
    return store


def test_a_grpo_dataset_holds_the_reference_policys_logprobs(split: Store) -> None:
    built(split, "with", "grpo", policy="bridge", runs="gen-r", reference="warmed", **GRPO)
    built(split, "without", "grpo", policy="bridge", runs="gen-r", **GRPO)
    dataset = open_dataset(split, "with")
    update = next(dataset.updates(columns=["ref_logprobs", "response_token_ids"]))
    logprobs, offsets = update.lists["ref_logprobs"]
    assert offsets.tolist() == update.lists["response_token_ids"][1].tolist()
    assert len(logprobs) and (logprobs <= 0).all()
    assert not {"ref_logprobs", "ref_policy_id"} & set(open_dataset(split, "without").columns)


def test_the_lineage_counts_what_the_reference_policy_scored(split: Store) -> None:
    for name, given in (("plain", {}), ("with", {"reference": "warmed"})):
        built(split, name, "grpo", policy="bridge", runs="gen-r", **given, **GRPO)
        trained(split, f"train-{name}", name, "bridge", f"made-{name}")
    plain, with_kl = policy_costs(split, ["made-plain", "made-with"])
    ((tokens,),) = split.sql(
        "SELECT sum(response_tokens) FROM rollouts WHERE run_id = 'gen-r'"
    ).fetchall()
    assert with_kl["scored_tokens"] - plain["scored_tokens"] == tokens


def test_rollouts_that_the_reference_did_not_score_are_refused(split: Store) -> None:
    with pytest.raises(DatasetError, match="logprobs of ref_policy_id that are not stored"):
        built(split, "w", "grpo", policy="bridge", runs="gen-3", reference="warmed", **GRPO)
