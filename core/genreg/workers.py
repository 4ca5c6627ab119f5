"""Several processes on one machine fill the windows of one run."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

from genreg.errors import GenregError, UsageError
from genreg.given import Given
from genreg.recipe import parse_seeds
from genreg.windows import FULL, Windows


@dataclass(frozen=True, eq=False)
class Work:
    """What a process must know to make any window of a run."""

    model: str
    options: Mapping[str, Any]
    registries: Sequence[str]
    given: Given  # without its seeds, of which there may be many
    seeds: str
    samplers: Sequence[str]
    windows: Windows


def fill_with(count: int, work: Work, tell: Callable[[int], object]) -> None:
    """Fill the windows that are missing with ``count`` processes, each of which loads the model once.

    Raises what a process raised, and GenregError with the name of one that died.
    """
    todo = work.windows.missing()
    context = multiprocessing.get_context("spawn")
    taken, crew = context.Value("q", 0), dict[Any, Any]()
    try:
        with _interrupts_later():
            for number in range(min(count, len(todo))):
                ours, theirs = context.Pipe(duplex=False)
                crew[ours] = context.Process(
                    target=_fill, args=(work, todo, taken, theirs), name=f"worker {number + 1}"
                )
                crew[ours].start()
                theirs.close()
        working: list[Any] = [*crew]
        while working:
            for pipe in wait(working):
                if not _heard(pipe, crew[pipe], tell):
                    working.remove(pipe)
    finally:
        for pipe, process in crew.items():
            if process.pid is not None:
                process.terminate()
                process.join()
            pipe.close()


def _heard(pipe: Any, process: Any, tell: Callable[[int], object]) -> bool:
    """Take one message of a process; False: it has finished."""
    try:
        news = pipe.recv()
    except EOFError:
        process.join()
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        raise GenregError(
            f"{process.name} (process {process.pid}) {how}; the windows that were finished are kept: --resume continues"
        ) from None
    if isinstance(news, Exception):
        raise news
    if news is not None:
        tell(news)
    return news is not None


def _fill(work: Work, todo: Sequence[int], taken: Any, pipe: Any) -> None:
    """What each process does: take the next window that nobody has taken, until there is none."""
    from genreg.api import load

    try:
        model = load(work.model, options=work.options, registries=work.registries)
        given = replace(work.given, seeds=parse_seeds(work.seeds))
        run = model.run(given, model.samplers(work.samplers))
        work.windows.fill(run, ((todo[turn], todo[turn]) for turn in _turns(taken, len(todo))), pipe.send)
        pipe.send(None)
    except BrokenPipeError:  # nobody listens any more
        return
    except Exception as error:
        told = isinstance(error, GenregError) or (isinstance(error, OSError) and error.errno in FULL)
        name = multiprocessing.current_process().name
        pipe.send(error if told else RuntimeError(f"{name}: {type(error).__name__}: {error}"))


def _turns(taken: Any, count: int) -> Iterator[int]:
    while True:
        with taken.get_lock():
            number = taken.value
            taken.value += 1
        if number >= count:
            return
        yield number


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Processes that start within never hear Ctrl-C: it is this one that ends them, once the block is over."""
    resource_tracker.ensure_running()  # which would let the signal through again if it started within
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def refuse_workers(count: int, *, streams: bool, to_file: bool) -> None:
    """Raise UsageError where several processes would be no help."""
    if count > 1 and streams:
        raise UsageError(
            f"--workers {count}: this family waits for answers, and one process waits for many at once: leave it out, "
            "or see its options for how many requests are in flight"
        )
    if count > 1 and not to_file:
        raise UsageError(f"--workers {count}: the workers fill a file: name one with -o")
