"""Weights from the Hub into Hugging Face's own cache: looked at first, resumed where it broke, hashed at the end.

A file comes into ``blobs/<etag>.incomplete`` of its repository, under the client's own lock; what a killed process left
there is gone on with. When it is whole and its digest is right it becomes ``blobs/<etag>``, and the client links it
into the snapshot. So the cache is one that ``hf cache`` and every other library understand.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from genreg import hub
from genreg.checkpoint import CARD, CONFIG, INDEX, shards_of, weights_among
from genreg.errors import CheckpointError, GenregError, HubError, NotCached, UsageError
from genreg.files import reason, sha256
from genreg.hub import Contents, Reference, RemoteFile

Pins = Mapping[str, Mapping[str, Any]]  # name -> sha256, size
SPARE = 64 << 20  # bytes that a download leaves free


def fetch(
    text: str, pins: Pins | None = None, *, offline: bool = False, mend: str | None = None
) -> tuple[Reference, Path]:
    """The commit that a reference means, and the local folder of its files.

    What is cached and pinned costs no request. With ``pins`` these files alone are wanted, and a Hub that has others is
    refused before a byte moves; ``mend`` is the line that fetches them. Raises NotCached offline, HubError for what the
    Hub refuses, CheckpointError for a file that is not the one pinned or that arrives damaged.
    """
    from huggingface_hub import is_offline_mode

    reference, pins = hub.parse(text), pins or {}
    offline = offline or is_offline_mode()
    known = reference if reference.pinned else _remembered(reference) if offline else None
    found = cached(known, pins) if known else None
    if known and found:
        return known, found
    if offline:
        raise _absent(reference, pins, mend or f"genreg pull {shlex.quote(text)}")
    there = _look(reference, pins)
    if not reference.pinned:
        _remember(reference, there.reference)
    return there.reference, cached(there.reference, pins) or _fetched(there, pins)


def _absent(reference: Reference, pins: Pins, mend: str) -> GenregError:
    """Why nothing is found offline: a file that is there and wrong, else what is not there."""
    folder = _store(reference) / "snapshots" / str(reference.revision) / reference.folder
    if wrong := [name for name in pins if (folder / name).is_file() and not _complete(folder, {name: pins[name]})]:
        return CheckpointError(f"{folder / wrong[0]} is not the file that is registered: with a network, {mend}")
    return NotCached(f"{reference} is not in the cache, and offline nothing is fetched; with a network: {mend}")


def cached(reference: Reference, pins: Pins) -> Path | None:
    """The folder of a snapshot that has all that is wanted; pinned files may lie in that of any commit."""
    snapshots = _store(reference) / "snapshots"
    own = snapshots / str(reference.revision)
    others = sorted(path for path in snapshots.glob("*") if path != own) if pins else []
    folders = (path / reference.folder for path in [own, *others])
    return next((folder for folder in folders if _complete(folder, pins)), None)


def _complete(folder: Path, pins: Pins) -> bool:
    if pins:
        paths = {folder / name: facts for name, facts in pins.items()}
        sizes = all(path.is_file() and path.stat().st_size == facts["size"] for path, facts in paths.items())
        return sizes and all(sha256(path) == facts["sha256"] for path, facts in paths.items())
    if not (folder / CONFIG).is_file():
        return False
    try:
        found = weights_among(path.name for path in folder.iterdir())
        names = shards_of(folder / found).values() if found.endswith(INDEX) else [found]
    except CheckpointError:
        return False
    return all((folder / name).is_file() for name in names)


def _look(reference: Reference, pins: Pins) -> Contents:
    """What the Hub has, compared with the pins; a commit that vanished may be made up for by the newest one."""
    from huggingface_hub.errors import RevisionNotFoundError

    from genreg.cli.common import note

    try:
        there = hub.contents(reference)
    except HubError as error:
        if not (pins and reference.pinned and isinstance(error.__cause__, RevisionNotFoundError)):
            raise
        there = hub.contents(reference.at(None))
        _compare(there, pins, f"{reference} has vanished, and ")
        note(f"{reference} has vanished: the same files are at {there.reference}")
        return there
    _compare(there, pins)
    if not reference.pinned:
        note(f"{reference} is {there.reference} now: write that to get the same weights again")
    return there


def _compare(there: Contents, pins: Pins, before: str = "") -> None:
    for name, facts in pins.items():
        found = there.files.get(name)
        large = found is not None and len(found.etag) == 64
        if found is None:
            raise CheckpointError(f"{before}{there.reference} has no file {name}, which is registered")
        if found.size != facts["size"] or (large and found.etag != facts["sha256"]):
            raise CheckpointError(
                f"{before}{there.reference}: {name} is not the file that is registered ({found.size:,} bytes, "
                f"{found.etag[:12]}…; registered: {facts['size']:,} bytes, sha256 {facts['sha256'][:12]}…); "
                "nothing was fetched"
            )


def _fetched(there: Contents, pins: Pins) -> Path:
    """Download what is wanted: the pinned files; else config, card and weights, or the shards of an index."""
    folder = _store(there.reference) / "snapshots" / str(there.reference.revision) / there.reference.folder
    if pins:
        _download(there.reference, [there.files[name] for name in pins])
        return folder
    if CONFIG not in there.files:
        raise CheckpointError(f"{there.reference} is no checkpoint: it has no {CONFIG}")
    try:
        found = weights_among(there.files)
    except CheckpointError as error:
        raise CheckpointError(f"{there.reference}: {error}") from None
    _download(there.reference, [there.files[name] for name in (found, CONFIG, CARD) if name in there.files])
    if found.endswith(INDEX):
        shards = sorted(set(shards_of(folder / found).values()))
        gone = [name for name in shards if name not in there.files]
        if gone:
            raise CheckpointError(f"{there.reference}: {found} names {gone[0]}, and there is no such file")
        _download(there.reference, [there.files[name] for name in shards])
    return folder


def _download(at: Reference, files: Iterable[RemoteFile]) -> None:
    from huggingface_hub import hf_hub_download

    from genreg.cli.common import downloads

    files, store = list(files), _store(at)
    blobs = {file: store / "blobs" / file.etag for file in files}
    missing = [file for file in files if not _intact(blobs[file], file)]
    blobs_folder = store / "blobs"
    blobs_folder.mkdir(parents=True, exist_ok=True)
    _refuse_full(at, blobs_folder, missing)
    try:
        with downloads() as bar:
            for file in missing:
                _get(at, file, blobs[file], bar(file.path.rpartition("/")[2], file.size))
    except OSError as error:
        raise UsageError(f"{blobs_folder} cannot be written: {reason(error)}; what came is kept") from None
    for file in files:
        copy = store / "snapshots" / str(at.revision) / file.path
        if copy.is_file() and not copy.is_symlink():  # a system without links: the copy may be a damaged one
            copy.unlink()
        where: dict[str, Any] = {"revision": at.revision, "etag_timeout": hub.TIMEOUT, **hub.AGENT}
        hub.asked(at, lambda path=file.path, where=where: hf_hub_download(at.repo, path, **where))  # type: ignore[misc]


def _refuse_full(at: Reference, folder: Path, files: Iterable[RemoteFile]) -> None:
    begun = (folder / f"{file.etag}.incomplete" for file in files)
    needed = sum(file.size for file in files) - sum(path.stat().st_size for path in begun if path.is_file())
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE > free:
        raise UsageError(
            f"{at} takes {needed:,} bytes, and {folder} has {free:,} left: make room (hf cache rm), or set HF_HOME to "
            "another disk"
        )


def _get(at: Reference, file: RemoteFile, blob: Path, report: Callable[[int], None]) -> None:
    """One file, by one process at a time, whole and of the right digest."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import WeakFileLock

    part = blob.with_name(f"{blob.name}.incomplete")
    lock = blob.parents[2] / ".locks" / blob.parents[1].name / f"{file.etag}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if _intact(blob, file):  # another process was first
            return
        blob.unlink(missing_ok=True)
        for _ in range(2):
            _stream(at, hf_hub_url(at.repo, file.path, revision=at.revision), part, file.size, report)
            if hub.digest(part, file.etag) == file.etag:
                part.replace(blob)
                return
            part.unlink()
    raise CheckpointError(
        f"{at}: {file.path} arrived damaged twice, and was deleted: something between here and the Hub changes it; "
        f"try another network, and genreg pull {shlex.quote(str(at))}"
    )


def _stream(at: Reference, url: str, part: Path, size: int, report: Callable[[int], None]) -> None:
    """Append what is missing to ``part``, however often the connection breaks, as long as bytes keep coming."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff, httpx

    headers = {**build_hf_headers(**hub.AGENT), "Accept-Encoding": "identity"}
    once: dict[str, Any] = {"retry_on_exceptions": (), "retry_on_status_codes": ()}  # retried here, each kind of break
    if part.is_file() and part.stat().st_size > size:
        part.unlink()
    with part.open("ab") as file:
        most, idle = file.tell(), 0
        while (have := file.tell()) < size:
            wanted = headers | ({"Range": f"bytes={have}-"} if have else {})
            problem: Exception = httpx.RemoteProtocolError("the connection was closed")
            try:
                timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
                with http_stream_backoff("GET", url, headers=wanted, timeout=timeout, **once) as response:
                    hf_raise_for_status(response)
                    if response.status_code != 206:
                        file.truncate(0)
                    for block in response.iter_raw():
                        file.write(block[: size - file.tell()])
                        report(file.tell())
            except httpx.HTTPError as error:
                problem = error
            idle = 0 if file.tell() > most else idle + 1
            most = max(most, file.tell())
            if file.tell() < size:
                _wait(at, problem, idle)
        file.flush()
        os.fsync(file.fileno())


def _wait(at: Reference, problem: Exception, idle: int) -> None:
    """Until the next attempt; raises HubError where there is no use in one."""
    from huggingface_hub.errors import HfHubHTTPError

    wait = hub.pause(problem, idle) if isinstance(problem, HfHubHTTPError) else min(0.1 * 4**idle, 8)
    if wait is None or idle >= hub.TRIES:
        raise hub.told(problem, at) from problem
    time.sleep(wait)


def _intact(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and hub.digest(path, file.etag) == file.etag


def _store(reference: Reference) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, f"models--{reference.repo.replace('/', '--')}")


def _remembered(reference: Reference) -> Reference | None:
    """What a moving reference meant when it was last asked for."""
    path = _store(reference) / "refs" / (reference.revision or "main")
    return reference.at(path.read_text("utf-8").strip()) if path.is_file() else None


def _remember(reference: Reference, now: Reference) -> None:
    path = _store(reference) / "refs" / (reference.revision or "main")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(str(now.revision), "utf-8")
    temporary.replace(path)
