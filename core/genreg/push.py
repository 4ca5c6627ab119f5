"""A checkpoint folder becomes a model repository on the Hub: one commit, compared with ours, ready to be pinned.

Nothing but config, weights, card and pictures is sent. The commit names the one before it, so that nobody's is undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genreg import hub
from genreg.api import load
from genreg.card import published
from genreg.checkpoint import CARD, files_of
from genreg.errors import CheckpointError, UsageError
from genreg.hub import Reference
from genreg.userregistry import entry_of

Files = Mapping[str, Path | bytes]


def push(
    folder: Path,
    repo: str,
    *,
    license: str = "",
    datasets: Sequence[str] = (),
    private: bool = False,
    tag: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Publish a checkpoint as ``org/repo``; returns name, commit, url, files (name -> bytes) and the registry entry.

    A dry run asks and changes nothing. Raises UsageError for a name that cannot be one and a missing licence,
    CheckpointError for a folder that is none or where the Hub has other bytes after the upload, HubError for what the
    Hub refuses.
    """
    from huggingface_hub import HfApi

    reference = hub.parse(f"hf://{repo.removeprefix('hf://')}")
    if reference.revision or reference.folder:
        raise UsageError(f"{repo}: name the repository alone, {reference.repo}")
    entry = entry_of(folder, str(reference))
    if license:
        entry["license"] = license
    files = _files(folder, reference.repo, {"license": license.lower(), "datasets": list(datasets)})
    sizes = {name: _size(content) for name, content in files.items()}
    result: dict[str, Any] = {"name": reference.repo.partition("/")[2], "files": sizes}
    if dry_run:
        return result | {"commit": None, "url": None, "entry": entry}
    at, url = _commit(reference, files, private=private)
    _compare(at, files)
    if tag:
        api = HfApi(**hub.AGENT)
        hub.asked(at, lambda: api.create_tag(at.repo, tag=tag, revision=at.revision), tries=1)
    return result | {"commit": at.revision, "url": url, "entry": entry | {"weights": str(at)}}


def _files(folder: Path, repo: str, told: Mapping[str, Any]) -> Files:
    """What is sent, by name: the checkpoint's files, the completed card, and the pictures that it shows."""
    found: dict[str, Path | bytes] = {name: path for name, path in files_of(folder) if name != CARD}
    path = folder / CARD
    before = path.read_text("utf-8-sig") if path.is_file() else f"# {repo.partition('/')[2]}\n"
    card, pictures = published(before, repo, load(folder.resolve()), told)
    shown = {path.name: path for path in folder.glob("*.png") if f"({path.name})" in card}
    return {**found, **shown, **pictures, CARD: card.encode()}


def _commit(reference: Reference, files: Files, *, private: bool) -> tuple[Reference, str]:
    """Make the repository if there is none, and one commit on top of its newest."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api, repo = HfApi(**hub.AGENT), reference.repo
    hub.asked(reference, lambda: api.create_repo(repo, private=private, exist_ok=True), tries=1)
    parent = hub.contents(reference).reference.revision
    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    how: dict[str, Any] = {"commit_message": "Publish a checkpoint of genreg", "parent_commit": parent}
    made = hub.asked(reference, lambda: api.create_commit(repo, added, **how), tries=1)
    return reference.at(made.oid), f"{api.endpoint}/{repo}"


def _compare(at: Reference, files: Files) -> None:
    """Ask the Hub what it holds now; raises CheckpointError where a digest is not ours."""
    there = hub.contents(at).files
    for name, content in files.items():
        if name not in there or there[name].etag != hub.digest(content, there[name].etag):
            raise CheckpointError(f"{at}: {name} on the Hub is not the file that was sent: push it again")


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
