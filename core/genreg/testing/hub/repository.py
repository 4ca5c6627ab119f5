"""Repositories: what names their commits, what each commit holds, and what is kept in git."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Entry:
    """A file at one commit; ``sha256`` is set when it is kept in large-file storage."""

    size: int
    blob_id: str
    sha256: str | None = None

    @classmethod
    def large(cls, sha256: str, size: int) -> Entry:
        """A file of large-file storage: git keeps a pointer to it."""
        return cls(size, blob_id(pointer(sha256, size)), sha256)

    @property
    def etag(self) -> str:
        """What the client knows it by."""
        return self.sha256 or self.blob_id


Tree = dict[str, Entry]  # path in the repository -> file


@dataclass
class Commit:
    """A state of a repository's files."""

    oid: str
    parent: str | None
    title: str
    body: str
    when: float
    tree: Tree


@dataclass
class Repo:
    """A repository: its commits, and what names them."""

    id: str
    type: str = "models"
    private: bool = False
    gated: str | bool = False
    granted: set[str] = field(default_factory=set)
    disabled: bool = False
    created: float = field(default_factory=time.time)
    downloads: int = 0
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)  # blob id -> content of the files kept in "git"

    def ref_of(self, revision: str) -> str | None:
        """The full name of a branch, tag or other ref; None where there is none."""
        for ref in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if ref in self.refs:
                return ref
        return None

    def find(self, revision: str) -> Commit | None:
        """The commit of a ref or of the beginning of its id."""
        ref = self.ref_of(revision)
        if ref is not None:
            return self.commits[self.refs[ref]]
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            hits = [c for oid, c in self.commits.items() if oid.startswith(revision)]
            if len(hits) == 1:
                return hits[0]
        return None

    def commit(self, ref: str, tree: Tree, title: str, body: str = "") -> Commit:
        """A new commit on a ref."""
        parent = self.refs.get(ref)
        files = sorted((path, entry.etag) for path, entry in tree.items())
        seed = json.dumps([self.id, parent, title, body, len(self.commits), files])
        oid = hashlib.sha1(seed.encode()).hexdigest()
        new = Commit(oid, parent, title, body, time.time(), dict(tree))
        self.commits[oid] = new
        self.refs[ref] = oid
        return new

    def history(self, commit: Commit) -> Iterator[Commit]:
        """A commit and those before it."""
        here: Commit | None = commit
        while here is not None:
            yield here
            here = self.commits.get(here.parent) if here.parent else None

    def keep(self, data: bytes) -> Entry:
        """A small file, kept in git."""
        blob = blob_id(data)
        self.small[blob] = data
        return Entry(len(data), blob)


def blob_id(data: bytes) -> str:
    """Git's id of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in the place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
