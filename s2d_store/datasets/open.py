"""Open a locked dataset of a store."""

from __future__ import annotations

from s2d_store.datasets.folders import local_folder
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store


def open_dataset(store: Store, name: str) -> LockedDataset:
    """A locked dataset of a store, its files checked against its lock.

    Example:
        >>> dataset = open_dataset(store, "w")
        >>> sorted(dataset.lock.counts)
        ['labels', 'prompt_tokens', 'response_tokens', 'rows', 'updates']
        >>> first = next(dataset.updates(columns=["response_token_ids"]))
        >>> first.update, first.n_rows == len(first.lengths("response_token_ids"))
        (1, True)

    Raises:
        NotFoundError: there is none of that name.
        DatasetError: its lock or files were changed.
    """
    return LockedDataset.open(local_folder(store, name))
