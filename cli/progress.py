"""Progress of long commands: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from s2d_store.rollouts.progress import OnProgress, Progress, ignore

LINE_EVERY_S = 10.0


class ProgressBars:
    """Progress of one step after another: a callback for the drivers of each, in a context.

    Each displays rates, pass rate so far and time left on stderr. Where that is a log, the first
    model that is loaded is announced, and another one if the last took LINE_EVERY_S or longer.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.loaded_in_s = quiet, math.inf

    @contextmanager
    def __call__(self, verb: str) -> Iterator[OnProgress]:
        """The progress of one step, which `verb` says in words."""
        if self.quiet:
            yield ignore
        elif sys.stderr.isatty():
            yield from _bar(verb)
        else:
            yield _lines(verb, self)


def progress_bar(verb: str, quiet: bool) -> AbstractContextManager[OnProgress]:
    """The progress of a command of one step; see `ProgressBars`."""
    return ProgressBars(quiet)(verb)


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
    """How long the rest would take at the rate so far."""
    if not progress.done:
        return "?"
    return clock(seconds * (progress.total - progress.done) / progress.done)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 0:01:30."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _lines(verb: str, bars: ProgressBars) -> OnProgress:
    start = last = time.monotonic()
    told = ""

    def show(progress: Progress) -> None:
        nonlocal start, last, told
        now = time.monotonic()
        if progress.doing != told:
            line = progress.doing or f"loaded in {now - start:.1f} s"
            is_worth_it = bars.loaded_in_s >= LINE_EVERY_S
            if not progress.doing:
                bars.loaded_in_s = now - start
                is_worth_it = now - start >= (1 if is_worth_it else LINE_EVERY_S)
            if is_worth_it:
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
