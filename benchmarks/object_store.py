"""What a store on S3 costs beside one on a disk: requests, bytes and seconds, on loopback.

    python -m benchmarks.object_store --latency-ms 20

The server is SeaweedFS on this machine; a proxy before it holds each request back for a while, as
the way to a real service does. The server's own counter tells the requests of each step. Both
stores hold the same rows and take turns, step by step.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import queries
from benchmarks.writers import rows
from s2d_store.datasets.build import build, drop
from s2d_store.datasets.open import open_dataset
from s2d_store.maintenance.compact import compact
from s2d_store.schema import TABLES
from s2d_store.store import Store
from tests.support import object_server, synthetic

Steps = dict[str, Callable[[Store], Any]]


def steps(turn: int) -> Steps:
    """What is measured, in order, by name."""
    written = ("rollouts", "rewards", "topk")
    given = {"teacher": "teacher", "rows_per_update": "16"}
    return {
        "open": lambda store: Store.open(store.root).snapshot(),
        "commit to three tables": lambda store: store.commit(
            {name: rows(TABLES[name], f"w{turn}", turn) for name in written}, fresh=True
        ),
        "count rollouts by role": lambda store: store.sql(
            "SELECT role, count(*) FROM rollouts GROUP BY ALL"
        ).fetchall(),
        "add up every logprob": lambda store: store.sql(
            "SELECT sum(list_sum(logprobs)) FROM topk"
        ).fetchall(),
        "build a dataset": lambda store: build(
            store, f"d{turn}", queries.find("warmup"), given, seed=turn
        ),
        "read it, first time": lambda store: _read(store, f"d{turn}"),
        "read it again": lambda store: _read(store, f"d{turn}"),
        "drop it": lambda store: drop(store, f"d{turn}"),
    }


def _read(store: Store, name: str) -> int:
    return sum(update.n_rows for update in open_dataset(store, name).updates())


def requests(metrics: str) -> int:
    """Requests that the server has answered."""
    with urllib.request.urlopen(metrics, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith(_COUNTER)))


_COUNTER = "SeaweedFS_s3_request_total{"


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians over the turns, by step."""
    found: dict[str, dict[str, list[float]]] = {}
    with _stores(args.latency_ms / 1e3) as (server, disk, remote):
        for store in (disk, remote):
            synthetic.fill(store, n_prompts=args.prompts, n=8, k=64)
            list(compact(store))
        for turn in range(args.turns):
            for name, step in steps(turn).items():
                figures = found.setdefault(name, {"disk s": [], "S3 s": [], "requests": []})
                figures["disk s"].append(_seconds(step, disk))
                before = requests(server.metrics)
                figures["S3 s"].append(_seconds(step, remote))
                figures["requests"].append(requests(server.metrics) - before)
    medians = {
        name: {key: statistics.median(values) for key, values in figures.items()}
        for name, figures in found.items()
    }
    return {
        name: figures | {"S3 / disk": figures["S3 s"] / figures["disk s"]}
        for name, figures in medians.items()
    }


def _seconds(step: Callable[[Store], Any], store: Store) -> float:
    start = time.perf_counter()
    step(store)
    return time.perf_counter() - start


@contextlib.contextmanager
def _stores(latency_s: float = 0.0) -> Iterator[tuple[object_server.Server, Store, Store]]:
    with (
        tempfile.TemporaryDirectory(prefix="s2d-bench-") as name,
        object_server.running(Path(name)) as server,
    ):
        folder = Path(name)
        os.environ.update(server.environment, S2D_CACHE=str(folder / "cache"))
        if latency_s:
            port = int(server.environment["AWS_ENDPOINT_URL"].rpartition(":")[2])
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{delayed(port, latency_s)}"
        remote = Store.init(f"s3://{object_server.BUCKET}/store")
        yield server, Store.init(folder / "store"), remote


def delayed(port: int, latency_s: float) -> int:
    """A port that passes all on to another one, each piece that a client sends after a while."""
    loop = asyncio.new_event_loop()

    async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter, wait: float) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 20):
                await asyncio.sleep(wait)
                to.write(data)
                await to.drain()
            to.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            pass_on(reader, there_writer, latency_s), pass_on(there_reader, writer, 0)
        )

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    threading.Thread(target=loop.run_forever, name="delay", daemon=True).start()
    return int(server.sockets[0].getsockname()[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=500, help="8 rollouts each, k = 64")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every request")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    found = measure(args)
    print(f"{'':24}{'disk ms':>9}{'S3 ms':>9}{'S3 / disk':>11}{'requests':>10}")
    for name, f in found.items():
        print(
            f"{name:24}{f['disk s'] * 1e3:9.0f}{f['S3 s'] * 1e3:9.0f}{f['S3 / disk']:11.1f}"
            f"{f['requests']:10.0f}"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
