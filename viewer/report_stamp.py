"""What a report stands on, noted in the page itself, so that a report that is current stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from s2d_store.ids import content_id
from s2d_store.store import Store
from s2d_store.version import __version__
from viewer.claims import Claim

# The head of a page, in characters, within which the stamp stands.
_HEAD = 1000


def stamp(versions: Mapping[str, int], claims: Sequence[Claim]) -> str:
    """Id of a snapshot, of the claims that are held against it, and of what wrote the page."""
    return content_id(dict(sorted(versions.items())), list(map(asdict, claims)), __version__)


def is_current(page: Path, store: Store, claims: Sequence[Claim]) -> bool:
    """Whether a page is the report of the store as it is now, with these claims."""
    try:
        with page.open(encoding="utf-8") as file:
            head = file.read(_HEAD)
    except (OSError, ValueError):
        return False
    return f'content="{stamp(store.snapshot().versions, claims)}"' in head
