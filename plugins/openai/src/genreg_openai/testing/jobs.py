"""The fake's files and batches: a batch is made when it is begun, and is ready after a while."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Line = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]  # path and body -> status and answer

EMPTY = {
    "output_file_id": None, "error_file_id": None, "errors": None, "completed_at": None, "failed_at": None,
    "expired_at": None, "cancelled_at": None, "cancelling_at": None, "finalizing_at": None, "usage": None,
}  # fmt: skip


@dataclass
class Jobs:
    """Files and batches by id."""

    seconds: float = 0.2  # until a batch is ready
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)  # how each will have ended

    def upload(self, data: bytes) -> dict[str, Any]:
        """Keep a file."""
        id = f"file-fake{len(self.files) + 1:04d}"
        self.files[id] = data
        return {
            "id": id, "object": "file", "bytes": len(data), "created_at": int(time.time()), "filename": "batch.jsonl",
            "purpose": "batch", "status": "processed",
        }  # fmt: skip

    def begin(self, body: dict[str, Any], answer: Line, fault: dict[str, Any]) -> dict[str, Any]:
        """Begin a batch. A fault ends it as ``expired``, ``failed`` or ``cancelled`` after so many answers."""
        id, now = f"batch_fake{len(self.batches) + 1:04d}", int(time.time())
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        batch = {
            **EMPTY, "id": id, "object": "batch", "endpoint": body["endpoint"], "created_at": now,
            "completion_window": body["completion_window"], "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"), "status": "validating", "in_progress_at": now, "expires_at": now + 86_400,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }  # fmt: skip
        kind = str(fault.get("kind", ""))
        status = kind.removeprefix("batch_") if kind.startswith("batch_") else "completed"
        todo = lines if status == "completed" else lines[: int(fault.get("after", 0))]
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for line in reversed(todo):  # the order of a file is not kept
            code, made = answer(line["url"], line["body"])
            whole = {"status_code": code, "request_id": "req", "body": made}
            (good if code == 200 else bad).append({"custom_id": line["custom_id"], "response": whole, "error": None})
        if status == "expired":
            late = {"code": "batch_expired", "message": "This request could not be executed before it expired."}
            bad += [{"custom_id": line["custom_id"], "response": None, "error": late} for line in lines[len(todo) :]]
        end: dict[str, Any] = {"status": status, f"{status}_at": now, "request_counts": {
            "total": len(lines), "completed": len(good), "failed": len(lines) - len(good)}}  # fmt: skip
        if status == "failed":
            end["errors"] = {"object": "list", "data": [{"code": "invalid", "message": "This file is not valid."}]}
        for name, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                end[name] = self.upload(b"".join(json.dumps(row).encode() + b"\n" for row in rows))["id"]
        self.batches[id], self.ends[id], self.ready[id] = batch, end, time.monotonic() + self.seconds
        return batch

    def see(self, id: str) -> dict[str, Any]:
        """A batch as it is by now."""
        early = {**self.batches[id], "status": "in_progress"}
        return {**self.batches[id], **self.ends[id]} if time.monotonic() >= self.ready[id] else early
