"""Files that a command is asked to write must not land among the store's own."""

from __future__ import annotations

from pathlib import Path

from s2d_store.errors import InputError
from s2d_store.storage.location import Place

_OWN = ("tables", "datasets", "pending", "locks", "trash", "s2d.json")


def refuse_store_path(root: Place, output: Path) -> Path:
    """Return `output` unless the store keeps its own files there, links followed.

    Raises:
        InputError: it lies in a folder of the store's, or is its manifest.
    """
    if not isinstance(root, Path):
        return output
    place, store = output.expanduser().resolve(), root.resolve()
    inside = place.relative_to(store).parts if place.is_relative_to(store) else None
    if inside is not None and (not inside or inside[0] in _OWN):
        raise InputError(
            f"--output {output} lies among the files of the store at {root}",
            "what is stored is changed by s2d alone",
            "choose a place outside the store",
        )
    return output
