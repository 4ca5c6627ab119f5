"""Who asks, and what they may: tokens, private and gated repositories, and what an account does."""

from __future__ import annotations

import re
from dataclasses import dataclass

from genreg.testing.hub.exchange import Answer, Refusal, Request, refusal
from genreg.testing.hub.repository import Commit, Entry, Repo

OWNER_TOKEN = "hf_" + "fakeowner" * 3  # user "alice", member of the organisation "genreg", may write
READER_TOKEN = "hf_" + "fakereader" * 3  # user "bob", no organisation, may only read


@dataclass(frozen=True)
class User:
    """Whose a token is."""

    name: str
    orgs: tuple[str, ...] = ()
    write: bool = False

    def owns(self, namespace: str) -> bool:
        """Whether the namespace is theirs or their organisation's."""
        return namespace in (self.name, *self.orgs)


USERS = {OWNER_TOKEN: User("alice", ("genreg",), write=True), READER_TOKEN: User("bob")}


def user(request: Request) -> User | None:
    """Who asks; None for a stranger."""
    value = request.headers.get("Authorization", "")
    if not value:
        return None
    found = request.hub.users.get(value.removeprefix("Bearer ").strip())
    if found is None:
        raise refusal(401, "Invalid credentials in Authorization header")
    return found


def repository(request: Request, kind: str, repo_id: str, *, write: bool = False) -> Repo:
    """The repository, if who asks may know of it, and write to it."""
    who, repo = user(request), request.hub.repos.get((kind, repo_id))
    mine = who is not None and who.owns(repo_id.split("/")[0])
    if repo is None and (kind, repo_id) in request.hub.moved:
        new = request.path.replace(repo_id, request.hub.moved[kind, repo_id], 1)
        raise Refusal(Answer(None, 307, {"Location": new}))
    if repo is None or (repo.private and not mine):
        if who is None:  # the Hub does not tell "missing" from "private" to strangers
            raise refusal(401, "Invalid username or password.", "RepoNotFound")
        raise refusal(404, "Repository not found", "RepoNotFound")
    if repo.disabled:
        raise refusal(403, "Access to this resource is disabled.")
    if write and who is None:
        raise refusal(401, "Invalid username or password.", "RepoNotFound")
    if write and not (mine and who and who.write):
        raise refusal(403, f"You don't have the rights to write to {repo_id}")
    return repo


def commit_at(repo: Repo, revision: str) -> Commit:
    """The commit of a revision."""
    commit = repo.find(revision)
    if commit is None:
        raise refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def entry_at(commit: Commit, path: str) -> Entry:
    """The file of a path."""
    entry = commit.tree.get(path)
    if entry is None:
        raise refusal(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    return entry


def check_gate(request: Request, repo: Repo) -> None:
    """Refuse who was not let in."""
    if not repo.gated:
        return
    who = user(request)
    if who is None:
        message = f"Access to model {repo.id} is restricted. You must be authenticated to access it."
        raise refusal(401, message, "GatedRepo")
    if not (who.owns(repo.id.split("/")[0]) or who.name in repo.granted):
        page = f"{request.hub.url}/{repo.id}"
        message = (
            f"Access to model {repo.id} is restricted and you are not on the list. Visit {page} to ask for access."
        )
        raise refusal(403, message, "GatedRepo")


def check_signature(request: Request, what: str) -> None:
    """Refuse an address of the storage that the Hub did not give out."""
    if request.query.get("sig") != [request.hub.sign(what)]:
        raise Refusal(Answer("<html>AccessDenied</html>", 403))


def whoami(request: Request) -> Answer:
    """The account of a token."""
    who = user(request)
    if who is None:
        raise refusal(401, "Invalid username or password.")
    return Answer(
        {
            "type": "user",
            "name": who.name,
            "fullname": who.name.title(),
            "orgs": [{"type": "org", "name": org, "roleInOrg": "admin"} for org in who.orgs],
            "auth": {"type": "access_token", "accessToken": {"role": "write" if who.write else "read"}},
        }
    )


def create(request: Request) -> Answer:
    """A new repository, of a namespace that is the user's."""
    body, who, hub = request.json(), user(request), request.hub
    if who is None:
        raise refusal(401, "Invalid username or password.")
    kind, name, namespace = body.get("type") or "model", body["name"], body.get("organization") or who.name
    if not (who.write and who.owns(namespace)):
        raise refusal(403, f"You don't have the rights to create a model under the namespace {namespace!r}")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}", name) or "--" in name or ".." in name:
        raise refusal(400, f"Invalid repo name: {name}")
    repo_id = f"{namespace}/{name}"
    answer = {
        "url": f"{hub.url}/{'' if kind == 'model' else f'{kind}s/'}{repo_id}", "name": repo_id, "id": repo_id,
    }  # fmt: skip
    with hub.lock:
        if (f"{kind}s", repo_id) in hub.repos:
            return Answer({"error": f"You already created this {kind} repo", **answer}, 409)
        private = body.get("private") or body.get("visibility") == "private"
        hub.add_repo(repo_id, repo_type=kind, private=bool(private))
    return Answer(answer)


def move(request: Request) -> Answer:
    """Another name for a repository."""
    body = request.json()
    kind = body.get("type") or "model"
    repository(request, f"{kind}s", body["fromRepo"], write=True)
    request.hub.move(body["fromRepo"], body["toRepo"], repo_type=kind)
    return Answer({})
