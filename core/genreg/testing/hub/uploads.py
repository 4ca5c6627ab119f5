"""How files come into a repository: announced, stored where they are large, and committed at once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from types import NoneType
from typing import Any

import yaml

from genreg.testing.hub.access import check_signature, commit_at
from genreg.testing.hub.exchange import Answer, Request, refusal
from genreg.testing.hub.reading import FRONT_MATTER
from genreg.testing.hub.repository import Commit, Entry, Repo, Tree


def validate_card(request: Request) -> Answer:
    """What is wrong with the front matter of a README.md."""
    match = FRONT_MATTER.match(request.json().get("content", ""))
    if not match:
        missing = {"message": "empty or missing yaml metadata in repo card"}
        return Answer({"errors": [], "warnings": [missing]})
    errors = _mistakes(match[1])
    return Answer({"errors": [{"message": error} for error in errors], "warnings": []}, 400 if errors else 200)


def _mistakes(front_matter: str) -> list[str]:
    try:
        card = yaml.safe_load(front_matter) or {}
    except yaml.YAMLError as problem:
        return [f"invalid yaml: {problem}"]
    if not isinstance(card, dict):
        return ["metadata must be a mapping"]
    wanted: dict[str, tuple[type, ...]] = {"license": (str, list), "pipeline_tag": (str,), "library_name": (str,)}
    errors = [f'"{key}" must be a string' for key, kind in wanted.items() if not isinstance(card.get(key, ""), kind)]
    if not isinstance(card.get("tags"), list | NoneType):
        errors.append('"tags" must be an array')
    return errors


def preupload(request: Request, repo: Repo, commit: Commit) -> Answer:
    """For each file that is to come: whether git or the storage will hold it."""
    rows = []
    for item in request.json()["files"]:
        sample = base64.b64decode(item.get("sample", ""))
        mode = request.hub.upload_mode(repo, commit.tree, item["path"], item["size"], sample)
        row = {"path": item["path"], "uploadMode": mode, "shouldIgnore": False}
        old = commit.tree.get(item["path"])
        rows.append(row | {"oid": old.etag} if old else row)
    return Answer({"files": rows})


def batch(request: Request) -> Answer:
    """Where each large file is to be sent, if it is not there already."""
    hub, rows = request.hub, []
    for item in request.json()["objects"]:
        oid, size = item["oid"], item["size"]
        row: dict[str, Any] = {"oid": oid, "size": size}
        target = hub.lfs_path(oid)
        if not (target.exists() and target.stat().st_size == size):
            row["actions"] = {"upload": {"href": f"{hub.cdn_url}/upload/{oid}?sig={hub.sign(oid)}"}}
        rows.append(row)
    return Answer({"transfer": "basic", "objects": rows})


def receive(request: Request, oid: str) -> Answer:
    """Store a large file, if its content is what its name says."""
    check_signature(request, oid)
    spool = request.hub.root / "parts" / oid
    digest, etag = hashlib.sha256(), hashlib.md5()
    with spool.open("wb") as file:
        for data in request.chunks():
            digest.update(data)
            etag.update(data)
            file.write(data)
    if digest.hexdigest() != oid:
        spool.unlink()
        return Answer("<html>BadDigest</html>", 400)
    spool.replace(request.hub.lfs_path(oid))
    return Answer(b"", headers={"ETag": f'"{etag.hexdigest()}"'})


def commit(request: Request, repo: Repo, revision: str) -> Answer:
    """All changes at once, on a branch or as a pull request, unless the branch has moved."""
    hub, lines = request.hub, [json.loads(line) for line in request.bytes().splitlines() if line.strip()]
    with hub.lock:
        head, ref, answer = commit_at(repo, revision), repo.ref_of(revision), {}
        files = dict(head.tree)
        header: dict[str, str] = {}
        for line in lines:
            if line["key"] != "header":
                _change(request, repo, files, line["key"], line["value"])
                continue
            header = line["value"]
            if not head.oid.startswith(header.get("parentCommit") or ""):
                raise refusal(412, "A commit has happened since. Please refresh and try again.")
        if request.query.get("create_pr") == ["1"]:
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
            ref = f"refs/pr/{number}"
            repo.refs[ref] = head.oid
            answer["pullRequestUrl"] = f"{hub.url}/{repo.id}/discussions/{number}"
        if ref is None or ref.startswith("refs/tags/"):
            raise refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        new = repo.commit(ref, files, header.get("summary", ""), header.get("description", ""))
    return Answer(
        {"success": True, "commitOid": new.oid, "commitUrl": f"{hub.url}/{repo.id}/commit/{new.oid}", **answer}
    )


def _change(request: Request, repo: Repo, files: Tree, key: str, value: dict[str, Any]) -> None:
    """One operation of a commit, done to the files."""
    path = value["path"]
    if key == "file":
        try:
            files[_plain(path)] = repo.keep(base64.b64decode(value["content"], validate=True))
        except binascii.Error:
            raise refusal(400, f"Bad base64 for {path}") from None
    elif key == "lfsFile":
        target = request.hub.lfs_path(value["oid"])
        if not target.exists():
            raise refusal(400, f"LFS pointer pointed to a file that does not exist: {path}")
        files[_plain(path)] = Entry.large(value["oid"], target.stat().st_size)
    elif key in ("deletedFile", "deletedFolder"):
        above = path.rstrip("/") + "/"
        gone = [name for name in files if (name == path if key == "deletedFile" else name.startswith(above))]
        if not gone:
            raise refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        for name in gone:
            del files[name]
    else:
        raise refusal(400, f"Unknown operation {key}")


def _plain(path: str) -> str:
    if not path or path.startswith("/") or {"", ".", "..", ".git"} & set(path.split("/")):
        raise refusal(400, f"Invalid path in repo: {path}")
    return path


def ref(request: Request, repo: Repo, kind: str, arg: str) -> Answer:
    """Make or delete a branch (``arg`` is its name) or a tag (``arg`` is what it names, or its name to delete)."""
    prefix = "refs/heads/" if kind == "branch" else "refs/tags/"
    if request.method == "DELETE":
        if repo.refs.pop(prefix + arg, None) is None:
            raise refusal(404, f"Invalid rev id: {arg}", "RevisionNotFound")
        return Answer({})
    body = request.json()
    name, start = (arg, body.get("startingPoint", "main")) if kind == "branch" else (body["tag"], arg)
    if prefix + name in repo.refs:
        raise refusal(409, f"Reference already exists: {prefix}{name}")
    repo.refs[prefix + name] = commit_at(repo, start).oid
    return Answer({})
