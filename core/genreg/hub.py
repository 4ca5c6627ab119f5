"""The Hugging Face Hub: references to its repositories, what they hold, and its errors told apart."""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from genreg import __version__
from genreg.errors import GenregError, HubError, UsageError
from genreg.files import sha256

T = TypeVar("T")
TIMEOUT = 5.0  # seconds for an answer that moves no weights
TRIES = 5  # without a byte of progress
PATIENCE = 60.0  # seconds: a longer wait that the Hub asks for is told, and not slept through
AGENT: dict[str, Any] = {"library_name": "genreg", "library_version": __version__}
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Reference:
    """A folder of a model repository at a revision (None: the newest commit)."""

    repo: str
    revision: str | None = None
    folder: str = ""

    @property
    def pinned(self) -> bool:
        """Whether the revision is a whole commit, so that it means the same for ever."""
        return COMMIT.fullmatch(self.revision or "") is not None

    def at(self, revision: str | None) -> Reference:
        """The same folder at another revision."""
        return replace(self, revision=revision)

    def path(self, name: str) -> str:
        """A file of the folder, as the repository names it."""
        return f"{self.folder}/{name}" if self.folder else name

    def __str__(self) -> str:
        revision = f"@{self.revision.replace('/', '%2F')}" if self.revision else ""
        return f"hf://{self.repo}{revision}{f'/{self.folder}' if self.folder else ''}"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository; ``etag`` is the sha256 of a large one, git's sha1 of a small one."""

    path: str
    size: int
    etag: str


@dataclass(frozen=True)
class Contents:
    """What a folder of a repository holds at one commit, by plain name."""

    reference: Reference
    files: Mapping[str, RemoteFile]


def digest(content: Path | bytes, like: str) -> str:
    """The sha256 of a file or its content; or git's sha1, where the digest to compare with is as long as that."""
    if len(like) == 64:
        return sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
    data = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def parse(text: str) -> Reference:
    """``hf://org/repo[@revision][/folder]``, in the Hub client's own grammar; raises UsageError."""
    from huggingface_hub import parse_hf_uri

    try:
        found = parse_hf_uri(text)
    except ValueError as error:
        raise UsageError(f"{text} is no reference: write hf://org/repo or hf://org/repo@revision ({error})") from None
    folder = found.path_in_repo.rstrip("/")
    if found.type != "model":
        raise UsageError(f"{text} is a {found.type}: models are hf://org/repo")
    if {".", "..", ""} & set(folder.split("/") if folder else ()) or "\\" in folder:
        raise UsageError(f"{text}: {folder!r} is no folder of a repository")
    if re.search(r"\.(json|safetensors|md)$", folder):
        raise UsageError(f"{text} is a file: name its folder, {text.rpartition('/')[0]}")
    return Reference(found.id, found.revision, folder)


def contents(reference: Reference) -> Contents:
    """One request: the commit that a reference means now, and each file's size and digest; raises HubError."""
    from huggingface_hub import HfApi

    how: dict[str, Any] = {"revision": reference.revision, "files_metadata": True, "timeout": TIMEOUT}
    info = asked(reference, lambda: HfApi(**AGENT).model_info(reference.repo, **how))
    above = reference.path("")
    files = {
        found.rfilename.removeprefix(above): RemoteFile(
            found.rfilename, found.size or 0, found.lfs.sha256 if found.lfs else found.blob_id or ""
        )
        for found in info.siblings or []
        if found.rfilename.startswith(above) and "/" not in found.rfilename.removeprefix(above)
    }
    return Contents(reference.at(str(info.sha)), files)


def asked(reference: Reference, call: Callable[[], T], tries: int = TRIES) -> T:
    """What the call answers; a rate limit is waited out, a failing server asked again; raises HubError."""
    from huggingface_hub.utils import httpx

    for attempt in range(tries):
        try:
            return call()
        except (httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
            wait = pause(error, attempt) if attempt < tries - 1 else None
            if wait is None:
                raise told(error, reference) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def pause(error: Exception, attempt: int) -> float | None:
    """Seconds until the same may be tried again; None where that would not help."""
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError) or error.response is None:
        return None
    status = error.response.status_code
    if status == 429:
        wait = _wanted_pause(error)
        return wait if wait <= PATIENCE else None
    return min(0.5 * 2**attempt, 8) if status == 408 or status >= 500 else None


def told(error: BaseException, reference: Reference) -> GenregError:
    """The Hub's error in the user's words, with the next command to type."""
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx

    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        error = error.__cause__  # whatever breaks a download or an upload ends as one of these: the cause says what
    page, pull = f"{constants.ENDPOINT}/{reference.repo}", f"genreg pull {shlex.quote(str(reference))}"
    message = f"cannot be fetched: {type(error).__name__}: {error}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        message = f"is not in the cache, and offline nothing is fetched; with a network: {pull}"
    elif isinstance(error, errors.GatedRepoError):
        message = f"is gated: ask for access at {page}, then log in with `hf auth login`, and {pull}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        message = f"is private or does not exist: look at {page}, and log in with `hf auth login` if it is yours"
    elif isinstance(error, errors.RevisionNotFoundError):
        message = (
            f"has no revision {reference.revision}: {page}/commits/main lists them; "
            f"the newest is genreg pull {reference.at(None)}"
        )
    elif isinstance(error, errors.EntryNotFoundError):
        message = f"lacks a file that is needed: look at {page}/tree/{reference.revision or 'main'}"
    elif isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        message = _by_status(error, page, pull)
    elif isinstance(error, httpx.HTTPError):
        why = f"{type(error).__name__}: {error}".rstrip(": ")
        message = f"cannot be fetched, {constants.ENDPOINT} is unreachable ({why}); what is cached runs with --offline"
    elif isinstance(error, ValueError):
        message = f"got an answer from {constants.ENDPOINT} that is no Hub's: does the network ask you to log in first?"
    return HubError(f"{reference} {message}")


def _by_status(error: Any, page: str, pull: str) -> str:
    status = error.response.status_code
    if status == 429:
        return f"is rate-limited: wait {_wanted_pause(error):.0f} s, or log in with `hf auth login`; then {pull}"
    if status == 401:
        return "is refused, the Hub does not know your token: `hf auth login` replaces it"
    if status == 403:
        return f"is refused, your token lacks the right: {page}/settings, or `hf auth login` with another token"
    if status == 412:
        return f"was changed by somebody else meanwhile: look at {page}/commits/main, and push again"
    said = error.server_message or error.response.reason_phrase
    return f"cannot be fetched, the Hub answers {status} ({said}): later, {pull}"


def _wanted_pause(error: Any) -> float:
    """The seconds that an answer 429 asks for, in Retry-After or in the Hub's own header RateLimit."""
    headers = error.response.headers
    limit = re.search(r"\bt=(\d+)", headers.get("RateLimit", ""))
    found = headers.get("Retry-After") or (limit[1] if limit else "")
    return float(found) if re.fullmatch(r"\d+(\.\d+)?", found) else 5.0
