"""Which address is answered by what: of the Hub, of its storage, and of the remote control."""

from __future__ import annotations

import base64

from genreg.testing.hub import access, reading, uploads
from genreg.testing.hub.access import check_gate, commit_at, repository
from genreg.testing.hub.exchange import Answer, File, Request, refusal

TYPES = ("models", "datasets", "spaces")


def of_hub(request: Request) -> Answer | File:
    """Everything but large files."""
    parts, method = request.parts, request.method
    if parts[0] == "_fake":
        return _control(request)
    if parts[0] == "api":
        return _api(request, parts[1:])
    kind, rest = (parts[0], parts[1:]) if parts[0] in TYPES[1:] else ("models", parts)
    if len(rest) > 4 and rest[2] == "resolve" and method in ("GET", "HEAD"):
        repo = repository(request, kind, f"{rest[0]}/{rest[1]}")
        return reading.resolve(request, repo, rest[3], "/".join(rest[4:]))
    if len(rest) > 5 and rest[1].endswith(".git") and rest[2:6] == ["info", "lfs", "objects", "batch"]:
        repository(request, kind, f"{rest[0]}/{rest[1].removesuffix('.git')}", write=True)
        return uploads.batch(request)
    raise refusal(404, "Sorry, we can't find the page you are looking for.")


def of_storage(request: Request) -> Answer | File:
    """Large files, by addresses that the Hub signed."""
    parts, method = request.parts, request.method
    if len(parts) == 2 and parts[0] == "lfs" and method in ("GET", "HEAD"):
        return reading.large_file(request, parts[1])
    if len(parts) == 2 and parts[0] == "upload" and method == "PUT":
        return uploads.receive(request, parts[1])
    return Answer("<html>NoSuchKey</html>", 404)


def _api(request: Request, parts: list[str]) -> Answer | File:
    simple = {
        ("GET", "whoami-v2"): access.whoami,
        ("POST", "validate-yaml"): uploads.validate_card,
        ("POST", "repos/create"): access.create,
        ("POST", "repos/move"): access.move,
    }.get((request.method, "/".join(parts)))
    if simple:
        return simple(request)
    if parts[0] == "resolve-cache" and len(parts) > 5:
        repo = repository(request, parts[1], f"{parts[2]}/{parts[3]}")
        return reading.small_file(request, repo, parts[4], "/".join(parts[5:]))
    if parts[0] in TYPES and len(parts) >= 3:
        return _of_repository(request, parts[0], f"{parts[1]}/{parts[2]}", parts[3:])
    raise refusal(404, "Not found")


def _of_repository(request: Request, kind: str, repo_id: str, rest: list[str]) -> Answer:
    what, arg = rest[0] if rest else "", rest[1] if len(rest) > 1 else "main"
    reads = request.method in ("GET", "HEAD")
    repo = repository(request, kind, repo_id, write=not reads and what != "paths-info")
    if reads and what in ("", "revision"):
        return reading.info(request, repo, commit_at(repo, arg))
    if reads and what == "tree":
        return reading.tree(request, commit_at(repo, arg), "/".join(rest[2:]))
    if reads and what == "refs":
        return reading.refs(repo)
    if reads and what == "commits":
        return reading.commits(repo, commit_at(repo, arg))
    if reads and what == "auth-check":
        check_gate(request, repo)
        return Answer({})
    if not reads and what == "paths-info":
        return reading.paths_info(request, commit_at(repo, arg))
    if not reads and what == "preupload":
        return uploads.preupload(request, repo, commit_at(repo, arg))
    if not reads and what == "commit":
        return uploads.commit(request, repo, arg)
    if not reads and what in ("branch", "tag"):
        return uploads.ref(request, repo, what, arg)
    raise refusal(404, "Not found")


def _control(request: Request) -> Answer:
    """Faults, the log and repositories for tests in other processes."""
    what, hub = (request.method, "/".join(request.parts[1:])), request.hub
    if what == ("POST", "faults"):
        hub.fail(**request.json())
    elif what == ("DELETE", "faults"):
        hub.heal()
    elif what == ("GET", "log"):
        return Answer(hub.requests())
    elif what == ("DELETE", "log"):
        hub.forget()
    elif what == ("POST", "repos"):
        body = request.json()
        files = {name: base64.b64decode(content) for name, content in body.pop("files", {}).items()}
        hub.add_repo(body.pop("id"), files, **body)
    else:
        raise refusal(404, "Not found")
    return Answer({"ok": True})
