"""What `s2d capture` costs: requests through it against the same requests at the server.

    python -m benchmarks.proxy                     # a dummy server, 256 requests in flight
    python -m benchmarks.proxy --seconds 0         # a server that answers at once: cost per request
    python -m benchmarks.proxy --stream            # one event per token

The server is a process that waits as a generation does, then answers with ids and logprobs of 512
tokens; it is faster than any real one, and its client, itself and the proxy share the machine.
Direct and through the proxy run in turn, so that a drift of the machine's speed cancels.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from s2d_store.store import Store
from viewer.serve import listen

PATH = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "What is 6 times 7?"}]}


def answer(tokens: int) -> bytes:
    """A chat completion with ids and logprobs, about 60 bytes a token."""
    entries = [{"token": " four", "logprob": -0.1234, "top_logprobs": []}] * tokens
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": " four" * tokens},
        "finish_reason": "stop",
        "logprobs": {"content": entries},
        "token_ids": list(range(100, 100 + tokens)),
    }
    told = {"model": "tiny", "prompt_token_ids": list(range(40)), "choices": [choice]}
    return json.dumps(told).encode()


def event(token: int) -> bytes:
    """One token's event of a stream."""
    entry = {"token": " four", "logprob": -0.1234, "top_logprobs": []}
    piece = {"index": 0, "delta": {"content": " four"}, "logprobs": {"content": [entry]}}
    return b"data: " + json.dumps({"choices": [piece | {"token_ids": [token]}]}).encode() + b"\n\n"


def upstream(listening: Any, seconds: float, tokens: int) -> None:
    """The dummy server's process."""
    import uvicorn

    whole, pieces = answer(tokens), [event(token) for token in range(tokens)]

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            await asyncio.sleep(seconds / tokens)
            yield piece
        yield b"data: [DONE]\n\n"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"] or b"{}")
        kind = b"text/event-stream" if body.get("stream") else b"application/json"
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if body.get("stream"):
            async for piece in stream():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        else:
            await asyncio.sleep(seconds)
        last = b"" if body.get("stream") else whole
        await send({"type": "http.response.body", "body": last})

    config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


async def timed(url: str, requests: int, in_flight: int, stream: bool) -> float:
    """Seconds for that many requests, so many at a time."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=in_flight)
    body, left = BODY | {"stream": stream}, iter(range(requests))

    async with httpx.AsyncClient(limits=limits, timeout=300, trust_env=False) as client:

        async def one() -> None:
            for _ in left:
                (await client.post(f"{url}{PATH}", json=body)).raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(in_flight)))
        return time.perf_counter() - began


def capture(store: Path, server: str) -> tuple[subprocess.Popen[str], str]:
    """The command, and its URL."""
    command = [sys.executable, "-m", "cli.main", "capture", "--store", str(store), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--upstream", server], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()[0].removesuffix("/v1")


def main() -> None:
    """Print both times, their ratio and the difference per request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a generation")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, list[float]] = {"direct": [], "captured": []}
    with tempfile.TemporaryDirectory() as folder, listen("127.0.0.1", 0) as listening:
        store = Store.init(f"{folder}/store")
        context = multiprocessing.get_context("fork")
        server = context.Process(target=upstream, args=(listening, args.seconds, args.tokens))
        server.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        proxy, proxied = capture(Path(f"{folder}/store"), url)
        urls = {"direct": url, "captured": proxied}
        try:
            asyncio.run(timed(proxied, 16, 16, args.stream))
            for repeat in range(args.repeats):
                for name in urls if repeat % 2 == 0 else reversed(urls):
                    run = timed(urls[name], args.requests, args.in_flight, args.stream)
                    found[name].append(asyncio.run(run))
        finally:
            proxy.send_signal(signal.SIGINT)
            proxy.communicate()
            server.terminate()
            server.join()
        ((stored,),) = store.sql("SELECT count(*) FROM raw.rollouts").fetchall()
    direct, captured = (statistics.median(found[name]) for name in ("direct", "captured"))
    told = {
        "in_flight": args.in_flight,
        "direct_s": direct,
        "captured_s": captured,
        "ratio": captured / direct,
        "ms_per_request": (captured - direct) / args.requests * 1000,
        "asked": 16 + args.requests * args.repeats,
        "stored": stored,
    }
    print(json.dumps(told, indent=1))
    if args.json:
        args.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
