"""s2d view."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_STORE, StoreOption, open_store

PORT = 8265
QUICKSTART = "runs/quickstart/store"


def view(
    port: Annotated[int, typer.Option(help="Port; 0 takes any that is free.")] = PORT,
    host: Annotated[
        str,
        typer.Option(help="Address to listen at; one that others reach asks readers for a token."),
    ] = "127.0.0.1",
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Show the quickstart's store, or a small one made for it."),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read a store in the browser: rollouts token by token, curves, books. It changes nothing.

    Example: s2d view --store runs/quickstart/store
    """
    from tempfile import TemporaryDirectory

    from s2d_store.errors import NotFoundError

    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise NotFoundError(
            f"s2d view needs {' and '.join(missing)}, not installed here",
            fix='pip install "s2d[view]"',
        )
    from s2d_store.store import Store
    from viewer.serve import serve

    def say(url: str) -> None:
        print(f"{opened.root}: {url} (Ctrl-C ends it)", flush=True)

    if demo and not Store.is_at(QUICKSTART):
        from viewer.demo import make

        with TemporaryDirectory(prefix="s2d-demo-") as folder:
            opened = make(Path(folder) / "store")
            serve(opened, host, port, say)
        return
    opened = open_store(QUICKSTART if demo else store)
    serve(opened, host, port, say)
