"""Progress of long commands: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from s2d_store.rollouts.progress import OnProgress, Progress, ignore

LINE_EVERY_S = 10.0


@contextmanager
def progress_bar(verb: str, quiet: bool) -> Iterator[OnProgress]:
    """A callback for drivers that displays rates, pass rate so far and time left on stderr."""
    if quiet:
        yield ignore
    elif sys.stderr.isatty():
        yield from _bar(verb)
    else:
        yield _lines(verb)


def say(sentence: str) -> None:
    """Print what the user should know before the work begins, on stderr, with --quiet too."""
    print(f"note: {sentence}", file=sys.stderr, flush=True)


def describe(progress: Progress, seconds: float) -> str:
    """Rates and pass rate in words."""
    parts = [f"{progress.committed} stored"]
    if progress.tokens:
        parts.append(f"{progress.tokens / max(seconds, 1e-9):,.0f} tokens/s")
    elif progress.done:
        parts.append(f"{progress.done / max(seconds, 1e-9):,.0f}/s")
    if progress.graded:
        parts.append(f"pass rate {progress.reward / progress.graded:.3f}")
    return ", ".join(parts)


def time_left(progress: Progress, seconds: float) -> str:
    """Minutes and seconds that the rest would take at the rate so far."""
    if not progress.done:
        return "?"
    left = int(seconds * (progress.total - progress.done) / progress.done)
    return f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"


def _lines(verb: str) -> OnProgress:
    start = last = time.monotonic()
    told = ""

    def show(progress: Progress) -> None:
        nonlocal start, last, told
        now = time.monotonic()
        if progress.doing != told:
            line = progress.doing or f"loaded in {now - start:.1f} s"
            if progress.doing or now - start >= 1:
                print(f"{verb}: {line}", file=sys.stderr, flush=True)
            start = last = now
            told = progress.doing
            return
        finished = progress.committed == progress.total != 0
        if now - last >= LINE_EVERY_S or (finished and now - start >= 1):
            last = now
            print(
                f"{verb} {progress.done}/{progress.total}: {describe(progress, now - start)}, "
                f"{time_left(progress, now - start)} left",
                file=sys.stderr,
                flush=True,
            )

    return show


def _bar(verb: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    start = time.monotonic()
    columns = (
        TextColumn(verb),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]} left"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None, facts="starting", left="?")

        def show(progress: Progress) -> None:
            nonlocal start
            if progress.doing or not progress.done:
                # Rates are those of the work, without what was loaded for it.
                start = time.monotonic()
            seconds = time.monotonic() - start
            bar.update(
                task,
                total=progress.total,
                completed=progress.done,
                facts=progress.doing or describe(progress, seconds),
                left=time_left(progress, seconds),
            )

        yield show
