"""Fixtures that the tests of the server engine share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s2d_store.engines.registry import open_engine


@pytest.fixture(scope="module")
def model(teacher_folder: Path) -> Iterator[Any]:
    """The tiny teacher in this process, which the servers of tests answer from."""
    engine = open_engine("transformers", str(teacher_folder), device="cpu", dtype="float32")
    yield engine
    engine.close()


@pytest.fixture
def opened(request: pytest.FixtureRequest, teacher_folder: Path) -> Iterator[Callable[..., Any]]:
    """Open the server engine, with the module's K unless told; closed when the test ends."""
    engines: list[Any] = []

    def run(
        url: str, *, k: int = request.module.K, location: object = teacher_folder, **args: object
    ) -> Any:
        engine = open_engine("server", str(location), url=url, top_logprobs=k, engine_args=args)
        engines.append(engine)
        return engine

    yield run
    for engine in engines:
        engine.close()
