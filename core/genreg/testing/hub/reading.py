"""What a repository shows: its facts, its tree, its history, and its files."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import yaml

from genreg.testing.hub.access import check_gate, check_signature, commit_at, entry_at
from genreg.testing.hub.exchange import Answer, File, Request, refusal
from genreg.testing.hub.repository import Commit, Entry, Repo, Tree, pointer

FRONT_MATTER = re.compile(r"---\r?\n(.*?)\r?\n---", re.S)


def info(request: Request, repo: Repo, commit: Commit) -> Answer:
    """All about a repository at a commit, with its card and the names of its files."""
    card, names = _card(request, repo, commit), sorted(commit.tree)
    tags = [*(card.get("tags") or []), card.get("library_name")]
    tags.append("safetensors" if any(name.endswith(".safetensors") for name in names) else None)
    tags.append(f"license:{card['license']}" if isinstance(card.get("license"), str) else None)
    found = {
        "_id": hashlib.md5(repo.id.encode()).hexdigest()[:24],
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.id.split("/")[0],
        "sha": commit.oid,
        "lastModified": _iso(commit.when),
        "createdAt": _iso(repo.created),
        "private": repo.private,
        "gated": repo.gated,
        "disabled": repo.disabled,
        "downloads": repo.downloads,
        "likes": 0,
        "tags": list(dict.fromkeys(tag for tag in tags if tag)),
        "cardData": card or None,
        "usedStorage": sum(entry.size for entry in commit.tree.values()),
        "siblings": [_sibling(name, commit.tree[name], request.flag("blobs")) for name in names],
    }
    return Answer(found | {key: card[key] for key in ("library_name", "pipeline_tag") if card.get(key)})


def _sibling(name: str, entry: Entry, blobs: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": name}
    if blobs:
        found |= {"size": entry.size, "blobId": entry.blob_id}
        if entry.sha256:
            found["lfs"] = {"sha256": entry.sha256, **_stored(entry.sha256, entry.size)}
    return found


def _stored(sha256: str, size: int) -> dict[str, int]:
    return {"size": size, "pointerSize": len(pointer(sha256, size))}


def _card(request: Request, repo: Repo, commit: Commit) -> dict[str, Any]:
    """The front matter of README.md; empty where there is none to be read."""
    entry = commit.tree.get("README.md")
    if entry is None:
        return {}
    with request.hub.open(repo, entry) as file:
        match = FRONT_MATTER.match(file.read().decode(errors="replace"))
    try:
        card = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError:
        card = {}
    return card if isinstance(card, dict) else {}


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


# ---- trees ----


def tree(request: Request, commit: Commit, folder: str) -> Answer:
    """The files and folders below a folder, page by page."""
    deep, prefix = request.flag("recursive"), f"{folder.strip('/')}/".lstrip("/")
    rows: dict[str, dict[str, Any]] = {}
    for path, entry in commit.tree.items():
        if not path.startswith(prefix):
            continue
        steps = path.removeprefix(prefix).split("/")
        for depth in range(1, len(steps) if deep else min(2, len(steps))):
            above = prefix + "/".join(steps[:depth])
            rows.setdefault(above, _folder(commit.tree, above))
        if deep or len(steps) == 1:
            rows[path] = _file(path, entry)
    if prefix and not rows:
        raise refusal(404, f"{folder} does not exist on {commit.oid}", "EntryNotFound")
    ordered = [rows[path] for path in sorted(rows)]
    start = int(request.query.get("cursor", ["0"])[0])
    stop = start + request.hub.page_size
    headers = {}
    if stop < len(ordered):
        query = {key: values[0] for key, values in request.query.items()} | {"cursor": str(stop)}
        spelled = "&".join(f"{key}={quote(value)}" for key, value in query.items())
        headers["Link"] = f'<{request.hub.url}{urlsplit(request.path).path}?{spelled}>; rel="next"'
    return Answer(ordered[start:stop], headers=headers)


def paths_info(request: Request, commit: Commit) -> Answer:
    """The files and folders of these names, those that are there."""
    raw = request.bytes().decode()
    as_json = request.headers.get("Content-Type", "").startswith("application/json")
    rows = []
    for path in (json.loads(raw) if as_json else parse_qs(raw)).get("paths", []):
        if path in commit.tree:
            rows.append(_file(path, commit.tree[path]))
        elif any(name.startswith(path.rstrip("/") + "/") for name in commit.tree):
            rows.append(_folder(commit.tree, path.rstrip("/")))
    return Answer(rows)


def _file(path: str, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "oid": entry.blob_id, "size": entry.size, "path": path}
    if entry.sha256:
        found["lfs"] = {"oid": entry.sha256, **_stored(entry.sha256, entry.size)}
    return found


def _folder(files: Tree, folder: str) -> dict[str, Any]:
    inside = sorted((path, entry.etag) for path, entry in files.items() if path.startswith(folder + "/"))
    return {
        "type": "directory",
        "oid": hashlib.sha1(json.dumps(inside).encode()).hexdigest(),
        "size": 0,
        "path": folder,
    }


# ---- refs and history ----


def refs(repo: Repo) -> Answer:
    """Branches, tags and pull requests."""
    kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "converts": "refs/convert/", "pullRequests": "refs/pr/"}
    return Answer(
        {
            kind: [
                {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
                for ref, oid in sorted(repo.refs.items())
                if ref.startswith(prefix)
            ]
            for kind, prefix in kinds.items()
        }
    )


def commits(repo: Repo, commit: Commit) -> Answer:
    """The history of a commit."""
    return Answer(
        [
            {
                "id": each.oid,
                "title": each.title,
                "message": each.body,
                "date": _iso(each.when),
                "authors": [{"user": "alice"}],
            }
            for each in repo.history(commit)
        ]
    )


# ---- files ----


def resolve(request: Request, repo: Repo, revision: str, path: str) -> Answer:
    """Where a file lies: small ones here, large ones in the storage."""
    commit = commit_at(repo, revision)
    check_gate(request, repo)
    entry = entry_at(commit, path)
    if request.method == "GET":
        repo.downloads += 1
    headers = {"X-Repo-Commit": commit.oid, "Access-Control-Expose-Headers": "X-Repo-Commit,X-Linked-Size,ETag"}
    if entry.sha256 is None:  # a redirect that stays on the Hub
        target = f"/api/resolve-cache/{repo.type}/{repo.id}/{commit.oid}/{quote(path)}"
        return Answer(b"", 307, {**headers, "Location": target})
    target = f"{request.hub.cdn_url}/lfs/{entry.sha256}?sig={request.hub.sign(entry.sha256)}"
    headers |= {"X-Linked-Size": str(entry.size), "X-Linked-Etag": f'"{entry.sha256}"', "Accept-Ranges": "bytes"}
    return Answer(f"Found. Redirecting to {target}", 302, {**headers, "Location": target})


def small_file(request: Request, repo: Repo, oid: str, path: str) -> File:
    """A file that is kept in git."""
    check_gate(request, repo)
    commit = commit_at(repo, oid)
    entry = entry_at(commit, path)
    headers = {"ETag": f'"{entry.blob_id}"', "X-Repo-Commit": commit.oid}
    return File(request.hub.open(repo, entry), entry.size, headers)


def large_file(request: Request, sha256: str) -> File:
    """A file of the storage, for whoever has an address that the Hub signed."""
    check_signature(request, sha256)
    path = request.hub.lfs_path(sha256)
    return File(path.open("rb"), path.stat().st_size, {"ETag": f'"{sha256}"'})
