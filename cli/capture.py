"""s2d capture."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from cli.config_options import Option, command, options, settings
from cli.options import DEFAULT_STORE, StoreOption, open_store
from s2d_store.capture.settings import CaptureConfig


def _capture(given: dict[str, Any]) -> None:
    from s2d_store.errors import NotFoundError

    config = CaptureConfig(**settings(CaptureConfig, given))
    if not config.drain and find_spec("uvicorn") is None:
        raise NotFoundError(
            "s2d capture needs uvicorn, not installed here", fix='pip install "s2d[view]"'
        )
    opened = open_store(given["store"])
    if config.drain:
        from s2d_store.capture.drain import drain
        from s2d_store.capture.places import spool_folder

        done = drain(opened, spool_folder(opened, config))
    else:
        from s2d_store.capture.serve import serve
        from viewer.serve import listen

        with listen("127.0.0.1", config.port) as listening:
            done = serve(opened, config, listening, lambda text: print(text, flush=True))
    if config.drain:
        print(f"{done.rollouts} rollouts stored")
    if done.refused:
        print(f"{done.refused} exchanges cannot be held: see refused.ndjson in the spool")


capture = command(
    _capture,
    {**options(CaptureConfig), "store": Option(StoreOption, DEFAULT_STORE)},
    """Store what passes between clients and an OpenAI-compatible server.

    Point clients at the proxy in place of the server. docs/capture.md has the details.

    Example: s2d capture --upstream http://localhost:8000 --run math-agents --ask-ids
    """,
)
