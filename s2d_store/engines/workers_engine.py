"""Several engines as one: requests are handed out in chunks, results come back as chunks finish.

The process that asks is the only one that writes to the store, counts the budget and shows
progress. A lost worker's chunks go to the others; nothing of a chunk was handed out before it was
whole, so nothing comes twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Any, Protocol

from s2d_store.encoding.topk import TopK
from s2d_store.engines.base import Sample, SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.chunk_limits import answer_rows, block_rows, score_windows
from s2d_store.engines.registry import EngineSettings, find
from s2d_store.engines.worker import Facts, Failure, Task
from s2d_store.errors import EngineError, InputError
from s2d_store.policies.tokenizer import load_tokenizer

# Chunks that a worker has at a time: one it works on, and one so that it need not wait.
DEPTH = 2
# Chunks for each worker at least, so that all end at about the same time.
SHARES = 8
# Requests that an engine of continuous batching is given at a time.
MOST = 512
# How many workers a chunk may take down with it.
LOST = 3


class WorkerPool(Protocol):
    """Workers, wherever they run.

    Attributes:
        alive: numbers of those that take tasks.
    """

    alive: set[int]

    def facts(self) -> list[Facts | Failure]:
        """What each says of its engine, once it is open."""
        ...

    def send(self, worker: int, task: Task) -> None:
        """Hand out a task."""
        ...

    def receive(self) -> tuple[int, int, list[Any] | Failure | None]:
        """Wait for an answer: worker, task id, results; None where the worker is gone."""
        ...

    def why_gone(self, worker: int) -> str:
        """Why a worker is not alive any more."""
        ...

    def close(self) -> None:
        """End all of them."""
        ...


@dataclass
class _Chunk:
    task: Task
    lost: int = 0


def open_workers(name: str, location: str, settings: EngineSettings) -> WorkersEngine:
    """Start the workers that `settings.workers` asks for.

    Raises:
        InputError: it is neither N, `ray` nor `ray:N`; or the engine is a server already.
        EngineError: they cannot start.
    """
    if find(name).capabilities.served:
        raise InputError(
            f"--workers is given for engine {name}",
            "its servers are the workers",
            "leave --workers out, and name every endpoint with --url",
        )
    plain = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "workers"}
    arguments = settings.engine_args or {}
    gpus = arguments.get("tensor_parallel_size", 1)
    kind, _, number = settings.workers.partition(":")
    from s2d_store.engines.ray_workers import RayWorkers, check_count

    if kind != "ray" or number:
        check_count(number if kind == "ray" else settings.workers)
    shared = (name, location, plain, gpus if isinstance(gpus, int) else 1)
    if kind == "ray":
        pool: WorkerPool = RayWorkers(int(number or 0), *shared)
    else:
        from s2d_store.engines.local_workers import LocalWorkers

        pool = LocalWorkers(int(kind), *shared)
    try:
        return WorkersEngine(pool, location, settings.batch_size)
    except BaseException:
        pool.close()
        raise


class WorkersEngine:
    """An `Engine` over the engines of a pool.

    Args:
        pool: its workers; closed with the engine.
        location: of the model.
        batch_size: chunks of samples hold a multiple of it, or of the block that engines decode
            together where that is less; see `chunk_limits.block_rows`.

    Attributes:
        process_ids: of the workers' processes, by their number.

    Raises:
        EngineError: a worker cannot load the model, or they differ.
    """

    def __init__(self, pool: WorkerPool, location: str, batch_size: int) -> None:
        self._pool, self._batch_size = pool, batch_size
        opened = pool.facts()
        for answer in opened:
            if isinstance(answer, Failure):
                raise answer.error()
        facts = {answer for answer in opened if isinstance(answer, Facts)}
        if len(facts) != 1:
            raise EngineError(
                "the workers have different engines",
                "; ".join(map(str, sorted(facts, key=str))),
                "install the same versions everywhere",
            )
        (one,) = facts
        self.process_ids = [f.process_id for f in opened if isinstance(f, Facts)]
        self.name, self.version = one.name, one.version
        self.vocab_size, self.max_model_len = one.vocab_size, one.max_model_len
        self.tokenizer = load_tokenizer(location)
        self._ids = count()

    def sample(
        self, requests: Sequence[SampleRequest], params: SamplingParams, top_logprobs: int
    ) -> Iterator[Sample]:
        """Yield samples, chunk by chunk as they finish; see `Engine.sample`."""
        block = block_rows(self._batch_size, params.max_tokens, top_logprobs)
        share = self._share(len(requests))
        size = answer_rows(share, block, params.max_tokens, top_logprobs)
        chunks = (requests[a : a + size] for a in range(0, len(requests), size))
        tasks = (Task(next(self._ids), "sample", c, (params, top_logprobs)) for c in chunks)
        return self._spread(tasks)

    def score(self, requests: Iterable[ScoreRequest], k: int) -> Iterator[tuple[str, TopK]]:
        """Yield scores, chunk by chunk as they finish; see `Engine.score`."""
        known = len(requests) if isinstance(requests, Sequence) else None
        chunks = score_windows(requests, self._share(known), k)
        tasks = (Task(next(self._ids), "score", c, (k,)) for c in chunks)
        return self._spread(tasks)

    def reload(self, location: str) -> bool:
        """Give every worker another policy's weights; False where one of them cannot."""
        left, done = set[int](), True
        for worker in self._pool.alive:
            left.add(task_id := next(self._ids))
            self._pool.send(worker, Task(task_id, "reload", (), (location,)))
        while left:
            worker, task_id, answer = self._pool.receive()
            if answer is None:
                return False
            if isinstance(answer, Failure):
                raise answer.error()
            if task_id in left:
                left.discard(task_id)
                done &= bool(answer[0])
        return done

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def _share(self, total: int | None) -> int:
        """Requests of a chunk, before blocks and memory are looked at."""
        if total is None:
            return MOST
        return max(1, min(MOST, -(-total // (SHARES * len(self._pool.alive)))))

    def _spread(self, tasks: Iterator[Task]) -> Generator[Any, None, None]:
        again: deque[_Chunk] = deque()
        under_way: dict[int, deque[_Chunk]] = {}
        while True:
            for worker in sorted(self._pool.alive):
                mine = under_way.setdefault(worker, deque())
                while len(mine) < DEPTH:
                    chunk = again.popleft() if again else _next(tasks)
                    if chunk is None:
                        break
                    mine.append(chunk)
                    self._pool.send(worker, chunk.task)
            if not any(under_way.values()):
                return
            worker, task_id, answer = self._pool.receive()
            mine = under_way.get(worker, deque())
            if answer is None:
                again.extend(self._given_back(worker, under_way.pop(worker, deque())))
                continue
            done = next((chunk for chunk in mine if chunk.task.task_id == task_id), None)
            if done is None:
                continue  # Whoever asked for it did not wait.
            if isinstance(answer, Failure):
                raise answer.error()
            mine.remove(done)
            yield from answer

    def _given_back(self, worker: int, chunks: deque[_Chunk]) -> deque[_Chunk]:
        """The chunks of a worker that is gone; the first may have been its end."""
        why = self._pool.why_gone(worker)
        if not self._pool.alive:
            raise EngineError(
                "every worker is gone",
                why,
                "what was finished is stored; the same command goes on",
            )
        if chunks:
            chunks[0].lost += 1
            if chunks[0].lost >= LOST:
                first = chunks[0].task.requests[0].rollout_id
                raise EngineError(
                    f"{LOST} workers were lost over one chunk, which begins with rollout {first}",
                    why,
                    "leave it out with --where, or find out what ends the engine",
                )
        return chunks


def _next(tasks: Iterator[Task]) -> _Chunk | None:
    task = next(tasks, None)
    return None if task is None else _Chunk(task)
