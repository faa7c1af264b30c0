"""What a worker of a `VerifierPool` runs: it creates the verifier and grades items until the end.

Messages are JSON, one per line. In: `{"spec", "memory_bytes", "parent"}` once, then items
`[response, answer, more]`, see `to_wire`. Out: `{"name", "version", "needs", "description"}` or
`{"failed"}` once, then for each item, as soon as it is graded, `[reward, outcome, extracted,
detail, metrics, cost, seconds, retire]`; `retire` asks for a fresh worker. One line per item both
ways: whatever a worker dies of, be it reading an item, the parent knows which item it was on.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from dataclasses import astuple
from typing import Any, BinaryIO

from s2d_store.errors import S2DError
from s2d_store.verifiers.base import Item, Needs, Verdict
from s2d_store.verifiers.forms import Loaded
from s2d_store.verifiers.registry import load_verifier
from s2d_store.verifiers.verdict_checks import check_verdict, unjudged

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MAX_REASON_CHARS = 500


def to_wire(item: Item, needs: Needs) -> list[Any]:
    """An item as a message: its texts, and what else the verifier needs of it."""
    more: dict[str, Any] = {"id": item.rollout_id, "type": item.answer_type}
    if item.answers:
        more["answers"] = list(item.answers)
    if needs.context:
        more |= {"messages": list(item.messages), "source": item.source}
        more |= {"task": dict(item.task), "meta": dict(item.meta)}
    if needs.tokens and item.token_ids is not None:
        more["tokens"] = list(item.token_ids)
    return [item.response, item.answer, more]


def from_wire(message: list[Any]) -> Item:
    """The inverse of `to_wire`."""
    response, answer, more = message
    return Item(
        rollout_id=more["id"],
        response=response,
        answer=answer,
        answer_type=more["type"],
        answers=tuple(more.get("answers", ())),
        messages=more.get("messages", ()),
        source=more.get("source", ""),
        task=more.get("task", {}),
        meta=more.get("meta", {}),
        token_ids=more.get("tokens"),
    )


def grade(verifier: Loaded, line: bytes) -> tuple[Verdict, bool]:
    """The verdict on the item in one line, and whether this process should be replaced after it.

    The one place where any exception of a verifier becomes an outcome instead of a traceback.
    """
    try:
        return check_verdict(verifier.grade(from_wire(json.loads(line)))), False
    except MemoryError as error:
        # What the verifier left allocated would fail the next items too: ask to be replaced.
        return Verdict(None, "error", detail=f"memory limit reached: {error!r}"), True
    except Exception as error:
        return unjudged(f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS]), False


def apply_limits(memory_bytes: int, parent: int) -> None:
    """Bound this process: its address space, its life by its parent's, its SIGINT to none.

    It adopts what its own children leave behind, so that the parent finds all of it below this
    process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGKILL), (PR_SET_CHILD_SUBREAPER, 1)):
        if libc.prctl(option, value) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
    if os.getppid() != parent:
        # The parent died before prctl, so no signal will come.
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent, moved away from where a verifier's input() and print() go."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return incoming, outgoing


def send(outgoing: BinaryIO, message: object) -> None:
    """Write one message and flush it."""
    outgoing.write(json.dumps(message).encode() + b"\n")
    outgoing.flush()


def main() -> None:
    """Serve until the parent closes the pipe or dies."""
    incoming, outgoing = private_pipes()
    start = json.loads(incoming.readline())
    apply_limits(start["memory_bytes"], start["parent"])
    try:
        verifier = load_verifier(start["spec"])
    except S2DError as error:
        send(outgoing, {"failed": error.what, "why": error.why, "fix": error.fix})
        sys.exit(1)
    except Exception as error:
        send(outgoing, {"failed": "", "why": f"{type(error).__name__}: {error}", "fix": ""})
        sys.exit(1)
    needs = list(astuple(verifier.needs))
    hello = {"name": verifier.name, "version": verifier.version, "needs": needs}
    send(outgoing, hello | {"description": dict(verifier.description)})
    for line in incoming:
        began = time.perf_counter()
        verdict, retire = grade(verifier, line)
        seconds = time.perf_counter() - began
        reward = None if verdict.reward is None else float(verdict.reward)
        fields = [reward, verdict.outcome, verdict.extracted, verdict.detail]
        send(outgoing, [*fields, verdict.metrics, verdict.cost, seconds, retire])


if __name__ == "__main__":
    main()
