"""The faults of a network, on order.

``fail(kind, method=, path=<regex>, server="hub"|"cdn"|None, times=1|None, **options)``:

==============  ======================================================================================
status          answer ``code`` (``headers=``, ``body=``); 429 with ``headers={"Retry-After": "1"}``
drop            send ``after`` body bytes, then close the connection (FIN)
reset           the same, then a TCP reset (RST)
stall           send ``after`` body bytes, then nothing for ``seconds``, then close
corrupt         flip the bits of the file byte(s) at ``offset`` (int or list); the length stays right
truncate        pretend that the file is ``after`` bytes long (consistent headers, wrong length)
slow            send at most ``rate`` bytes a second
delay           wait ``seconds`` before answering
ignore_range    answer 200 with everything although a range was asked for
headers         answer normally, with ``set={...}`` added or replaced and ``unset=[...]`` removed
==============  ======================================================================================

``wire.py`` acts them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = frozenset(
    ["status", "drop", "reset", "stall", "corrupt", "truncate", "slow", "delay", "ignore_range", "headers"]
)


@dataclass
class Fault:
    """A fault on order: for which requests, and how often (None: always)."""

    kind: str
    method: str | None = None
    path: str = ""
    server: str | None = None
    times: int | None = 1
    options: dict[str, Any] = field(default_factory=dict)

    def takes(self, server: str, method: str, path: str) -> bool:
        """Whether the fault is for this request."""
        return (
            (self.times is None or self.times > 0)
            and self.server in (None, server)
            and self.method in (None, method)
            and re.search(self.path, path) is not None
        )

    def corrupted(self, data: memoryview, at: int) -> memoryview:
        """The bytes of the file from offset ``at`` on, those at ``offset`` flipped."""
        offsets = self.options.get("offset", 0)
        changed = bytearray(data)
        for offset in [offsets] if isinstance(offsets, int) else offsets:
            if 0 <= offset - at < len(changed):
                changed[offset - at] ^= 0xFF
        return memoryview(bytes(changed))

    def altered(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers without those in ``set`` and ``unset``, and with those in ``set``."""
        new: dict[str, str] = self.options.get("set", {})
        gone = {name.lower() for name in (*self.options.get("unset", []), *new)}
        return {name: value for name, value in headers.items() if name.lower() not in gone} | new


NONE = Fault("none")
