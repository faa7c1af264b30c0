"""Engines that stay open from one use to the next, for rounds that sample from newer weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from s2d_store import ids
from s2d_store.engines.base import Engine
from s2d_store.engines.registry import open_engine

OpenEngine = Callable[..., AbstractContextManager[Engine]]
"""Called as `open_engine`: a context whose value is the engine, open until the context ends."""

# What else must be equal for one model's weights to fit into another's engine.
_SHAPE_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@contextmanager
def open_once(name: str, location: str, **settings: Any) -> Iterator[Engine]:
    """Open an engine, and close it at the end."""
    engine = open_engine(name, location, **settings)
    try:
        yield engine
    finally:
        engine.close()


class EngineCache:
    """Opens engines and keeps the last ones, since a vLLM engine takes half a minute to start.

    An engine is used again for the same policy, and for another of the same shape and tokenizer
    where it can take over that one's weights. After an error it is closed, whatever it was.
    """

    def __init__(self, most: int) -> None:
        """Keep at most that many engines; 0 closes each after its use."""
        self._most = most
        self._kept: dict[str, tuple[str, Engine]] = {}

    @contextmanager
    def __call__(self, name: str, location: str, **settings: Any) -> Iterator[Engine]:
        """See `OpenEngine`."""
        key = ids.content_id(name, _shape(location), sorted(settings.items()))
        engine = self._take(key, name, location, settings)
        try:
            yield engine
        except BaseException:
            engine.close()
            raise
        self._kept[key] = (location, engine)
        self._close_all_but(self._most)

    def close(self) -> None:
        """Close what is kept."""
        self._close_all_but(0)

    def _take(self, key: str, name: str, location: str, settings: dict[str, Any]) -> Engine:
        if key in self._kept:
            held, engine = self._kept.pop(key)
            try:
                if held == location or engine.reload(location):
                    return engine
            except BaseException:
                engine.close()
                raise
            engine.close()
        # Room first: two models may not fit side by side.
        self._close_all_but(max(0, self._most - 1))
        return open_engine(name, location, **settings)

    def _close_all_but(self, most: int) -> None:
        while len(self._kept) > most:
            _, engine = self._kept.pop(next(iter(self._kept)))
            engine.close()


def _shape(location: str) -> list[str]:
    """What two policies must share; for a hub id the id itself."""
    folder = Path(location)
    files = [folder / name for name in _SHAPE_FILES if (folder / name).is_file()]
    return [file.read_text(encoding="utf-8") for file in files] or [location]
