"""How long the pages of `s2d view` take on large stores, and how much memory its server needs.

    python -m benchmarks.viewer /data/1m             # made if it is not there: 1,000,000 rollouts
    python -m benchmarks.viewer /data/long --rollouts 10000 --mean-tokens 8000 --k 64

Each page is asked for once after the server has started (cold: nothing of it is known, but for what
the server loads by itself) and three times after that (warm: the median). CPU seconds are the
server's, of all threads: on a machine that others use they say more than wall time. The peak of
resident memory is the server's over the whole run.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.synthetic_store import Builder
from s2d_store.store import Store

WARM_REPEATS = 3


def pages(store: Store) -> dict[str, str]:
    """Paths by what they are; a rollout with top-k, the longest there is."""
    rollout = store.sql(
        "SELECT rollout_id FROM rollouts SEMI JOIN topk USING (rollout_id) "
        "ORDER BY response_tokens DESC, rollout_id LIMIT 1"
    ).fetchall()[0][0]
    wrong = urllib.parse.quote("outcome = 'wrong'")
    return {
        "experiment": "/index.json",
        "experiment, curves of a stage": "/?stage=opd",
        "rollouts": "/rollouts",
        "rollouts, filtered": f"/rollouts?where={wrong}",
        "rollouts, last rows by length": "/rollouts.json?part=rows&order=longest&offset={last}",
        "rollouts, ready filter: zero spread": "/rollouts?ready=zero_spread",
        "one rollout": f"/rollout/{rollout}",
        "top-k at another token": f"/rollout/{rollout}/topk/3",
        "compare policies": "/compare?a=student-opd&b=student-warmup&purpose=train",
        "datasets": "/datasets",
        "one dataset": "/datasets/dataset-train-opd",
        "books": "/books",
        "SQL": "/sql?sql=" + urllib.parse.quote("SELECT role, count(*) FROM rollouts GROUP BY ALL"),
    }


@contextmanager
def server(root: Path) -> Iterator[tuple[str, int]]:
    """A viewer of its own process: its address and process id."""
    command = [sys.executable, "-m", "cli.main", "view", "--store", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, "the server did not start"
        try:
            yield found[0].rstrip("/"), process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """Largest resident memory of a process so far."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024


def timed(url: str, pid: int) -> tuple[float, float, int]:
    """Wall and CPU seconds of one request, and bytes."""
    before, began = cpu_seconds(pid), time.perf_counter()
    with urllib.request.urlopen(url, timeout=600) as answer:
        size = len(answer.read())
    return time.perf_counter() - began, cpu_seconds(pid) - before, size


def main() -> None:
    """Build the store where there is none, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--mean-tokens", type=int, default=200)
    parser.add_argument("--k", type=int, default=20)
    args = parser.parse_args()
    if not Store.is_at(args.store):
        most = max(2048, 2 * args.mean_tokens)
        Builder(args.store, args.rollouts, args.mean_tokens, args.k, 0, most).build()
    store = Store.open(args.store)
    rollouts, tokens, longest = store.sql(
        "SELECT count(*), sum(response_tokens), max(response_tokens) FROM rollouts"
    ).fetchall()[0]
    print(f"{rollouts:,} rollouts, {tokens:,} tokens, the longest {longest:,}")
    print(f"{'page':38} {'cold s':>7} {'CPU s':>7} {'warm s':>7} {'CPU s':>7} {'kB':>7}")
    with server(args.store) as (url, pid):
        # A reader sees the stages at once, and their figures when all of it is known.
        wall, cpu, size = timed(f"{url}/", pid)
        print(f"{'experiment, as it is seen first':38} {wall:7.2f} {cpu:7.2f} {size / 1e3:23,.0f}")
        for name, path in pages(store).items():
            address = url + path.replace("{last}", str(rollouts - 60))
            wall, cpu, size = timed(address, pid)
            again = [timed(address, pid) for _ in range(WARM_REPEATS)]
            warm = statistics.median(seconds for seconds, _, _ in again)
            warm_cpu = statistics.median(seconds for _, seconds, _ in again)
            print(
                f"{name:38} {wall:7.2f} {cpu:7.2f} {warm:7.3f} {warm_cpu:7.3f} {size / 1e3:7,.0f}"
            )
        print(f"peak memory of the server: {peak_mib(pid):,.0f} MiB")


if __name__ == "__main__":
    main()
