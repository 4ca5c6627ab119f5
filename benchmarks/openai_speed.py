"""openai-text against the bare official client: 1,000 short prompts at concurrency 64, and memory for 100,000.

The server is a process of its own that answers after 20 ms. The peer is ``AsyncOpenAI`` with a semaphore, asking for
the same answers, whole and as streams; it keeps no journal, no budget and no order, and loses what came of a lost
connection. genreg's run is a file with its windows, journal and recipe. CPU is that of the client's process. Memory is
the growth of the peak from 1,000 rows to 100,000, answered without a network.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROWS, WIDTH, ROUNDS = 1000, 64, 5
GOALS = {"wall": 1.2, "cpu ms": 5.0, "MB": 100.0}
WORDS = [
    "autumn",
    "leaves",
    "are",
    "falling",
    "on",
    "the",
    "quiet",
    "river",
    "while",
    "the",
    "lantern",
    "keeps",
    "its",
    "watch",
]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of a server that has an answer ready, whole or as a stream of words."""
    base = {"id": "c", "created": 0, "model": "m"}
    usage = {"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 5 + len(WORDS)}
    deltas: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}]} for word in WORDS
    ]
    deltas += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}]
    events = "".join(
        f"data: {json.dumps({**base, 'object': 'chat.completion.chunk', **delta})}\n\n" for delta in deltas
    )
    message = {"role": "assistant", "content": " ".join(WORDS)}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    whole = json.dumps({**base, "object": "chat.completion", "choices": choices, "usage": usage})
    kinds = {True: ("text/event-stream", events + "data: [DONE]\n\n"), False: ("application/json", whole)}
    replies = {
        stream: f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()
        for stream, (kind, text) in kinds.items()
    }
    while head := await reader.readuntil(b"\r\n\r\n"):
        size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(size[1]) if size else 0)
        await asyncio.sleep(0.02)
        writer.write(replies[b'"stream":true' in body.replace(b" ", b"")])


async def serve() -> None:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def bare(url: str, stream: bool) -> None:
    """The official client as its documentation has it."""
    from openai import AsyncOpenAI

    turn = asyncio.Semaphore(WIDTH)
    async with AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:

        async def one(row: int) -> str:
            async with turn:
                asked: list[Any] = [{"role": "user", "content": f"prompt {row}"}]
                made: Any = await client.chat.completions.create(model="m", messages=asked, stream=stream, seed=row)
                if not stream:
                    return str(made.choices[0].message.content)
                chunks = [chunk.choices[0].delta.content or "" async for chunk in made if chunk.choices]
                return "".join(chunks)

        await asyncio.gather(*map(one, range(ROWS)))


def ours(url: str) -> None:
    """A run to a file, with everything that keeps it."""
    from click.testing import CliRunner

    from genreg.cli.run import command

    with tempfile.TemporaryDirectory() as folder:
        prompts = "".join(f"prompt {row}\n" for row in range(ROWS))
        options = [f"base_url={url}", "model=m", f"concurrency={WIDTH}"]
        flags = [flag for option in options for flag in ("--option", option)]
        line = ["openai-text", "-", "--seed", "0", "-o", f"{folder}/out.csv", *flags]
        done = CliRunner().invoke(command, line, input=prompts, catch_exceptions=False, standalone_mode=False)
        if done.return_value:
            sys.exit(f"the run ended with {done.return_value}: {done.output}")


def taken(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def held(count: int) -> float:
    """Peak MB of a process that runs so many rows to a file, answered without a network."""
    import genreg
    from genreg_openai.calls import Answer, Call, Request
    from genreg_openai_text.model import RemoteText

    @asynccontextmanager
    async def connect(_: RemoteText) -> Any:
        async def ask(_: Request, __: Call) -> Answer:
            await asyncio.sleep(0)
            return Answer({"text": " ".join(WORDS)}, "ok", {"output_tokens": len(WORDS)})

        yield ask

    RemoteText.connect = connect  # type: ignore[method-assign]
    model = genreg.load("openai-text", options={"base_url": "http://localhost:1/v1", "concurrency": WIDTH})
    with tempfile.TemporaryDirectory() as folder:
        prepared = model.prepare(model.given(None, {"prompt": "a prompt"}), count, seed=0)
        for _ in model.run(prepared, []).rows(batch=256, folder=Path(folder)):
            pass
    status = Path("/proc/self/status").read_text("ascii")  # what getrusage says is the parent's too
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1e3  # type: ignore[index]


def peak(count: int) -> float:
    done = subprocess.run([sys.executable, __file__, str(count)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> int:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        os.environ.pop(name, None)
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        ways: dict[str, Callable[[], Any]] = {
            "bare client, whole answers": lambda: asyncio.run(bare(url, stream=False)),
            "bare client, streams": lambda: asyncio.run(bare(url, stream=True)),
            "genreg run -o out.csv": lambda: ours(url),
        }
        for way in ways.values():
            way()  # imports
        rounds = [{name: taken(way) for name, way in ways.items()} for _ in range(ROUNDS)]  # in turn: loads change
        server.terminate()
    best = {name: (min(one[name][0] for one in rounds), min(one[name][1] for one in rounds)) for name in ways}
    print(f"| {ROWS:,} prompts, {WIDTH} at a time | wall, s | CPU, ms per request |")
    print("|---|---|---|")
    for name, (wall, cpu) in best.items():
        print(f"| {name} | {wall:.2f} | {1e3 * cpu / ROWS:.2f} |")
    (whole, cpu_whole), (streams, _), (own, cpu_own) = best.values()
    extra = 1e3 * (cpu_own - cpu_whole) / ROWS
    small, large = peak(1000), peak(100_000)
    cpu, memory = 1e3 * cpu_own / ROWS, large - small
    walls = f"{own / whole:.2f} times the wall time (goal: at most {GOALS['wall']:g})"
    print(f"\nAgainst whole answers {walls}, against streams {own / streams:.2f} times.")
    print(f"CPU per request: {cpu:.2f} ms, {extra:+.2f} beside the bare client's (goal: +{GOALS['cpu ms']:g}).")
    print(f"100,000 rows take {memory:.0f} MB more than 1,000 (goal: at most {GOALS['MB']:g}).")
    return int(own / whole > GOALS["wall"] or extra >= GOALS["cpu ms"] or memory > GOALS["MB"])


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    elif len(sys.argv) > 1:
        print(held(int(sys.argv[1])))
    else:
        sys.exit(main())
