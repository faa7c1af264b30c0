"""How many updates a run takes, and what becomes of a last one with fewer rows than the others.

Rows rarely divide by the update's size. A step of Adam is about as large for one row as for all,
so the last rows of a round count more than the rest: they may be kept so, left out, or take a step
that is smaller by their share.
"""

from __future__ import annotations

from dataclasses import dataclass

from s2d_store.datasets.read import LockedDataset
from trainers.config import PartialUpdate
from trainers.update import TOKEN_COLUMNS


@dataclass(frozen=True)
class Extent:
    """What of a dataset a run trains on.

    Attributes:
        updates: optimizer updates that it takes.
        last_share: factor on the last one's learning rate.
        drops: whether the dataset has one more, which is left out.
        rows: rows of these updates, as are the two below.
        prompt_tokens: tokens read as context.
        response_tokens: tokens of the responses.
    """

    updates: int
    last_share: float
    drops: bool
    rows: int
    prompt_tokens: int
    response_tokens: int

    def factor(self, update: int) -> float:
        """Factor on an update's learning rate."""
        return self.last_share if update == self.updates else 1.0


def extent(dataset: LockedDataset, partial_update: PartialUpdate) -> Extent:
    """What a run on the dataset trains on."""
    counts = dataset.lock.counts
    updates, rows = counts["updates"], counts["rows"]
    prompt_tokens, response_tokens = counts["prompt_tokens"], counts["response_tokens"]
    share = 1.0 if partial_update == "keep" else share_of_last(dataset)
    drops = partial_update == "drop" and share < 1.0
    if drops:
        for last in dataset.updates(updates, TOKEN_COLUMNS):
            rows -= last.n_rows
            prompt_tokens -= int(last.lengths("prompt_token_ids").sum())
            response_tokens -= int(last.lengths("response_token_ids").sum())
        updates, share = updates - 1, 1.0
    return Extent(updates, share, drops, rows, prompt_tokens, response_tokens)


def share_of_last(dataset: LockedDataset) -> float:
    """How full the last update is, at most 1.

    It is full if it has as many rows as the largest update, or as many rows or prompts as the
    dataset's query was asked for (`rows_per_update`, `prompts_per_update`).
    """
    params = dataset.lock.raw.get("params", {})
    by_prompt = "prompts_per_update" in params and "prompt_id" in dataset.columns
    sizes: list[int] = []
    prompts = 0
    for rows in dataset.updates(1, ["prompt_id"] if by_prompt else []):
        sizes.append(rows.n_rows)
        prompts = len(set(rows.scalars["prompt_id"].tolist())) if by_prompt else 0
    if not sizes:
        return 1.0
    shares = [sizes[-1] / max(sizes)] if len(sizes) > 1 else []
    if "rows_per_update" in params:
        shares.append(sizes[-1] / int(params["rows_per_update"]))
    if by_prompt:
        shares.append(prompts / int(params["prompts_per_update"]))
    return min(1.0, max(shares, default=1.0))
