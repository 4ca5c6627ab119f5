"""Where requests go, with whose key: https, or plain http to this machine alone."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from genreg.errors import UsageError
from genreg_openai.keys import OPENAI, find_key

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OFFICIAL = f"https://{OPENAI}/v1"


@dataclass(frozen=True)
class Endpoint:
    """A base URL, its host as keys are bound to it, and the key of that host, if there is one."""

    base_url: str
    host: str
    key: SecretStr | None = None
    local: bool = False  # on this machine

    @property
    def official(self) -> bool:
        """Whether it is OpenAI's own."""
        return self.host == OPENAI

    def scrub(self, text: str) -> str:
        """A text without the key, should a service have repeated it."""
        key = self.key.get_secret_value() if self.key else ""
        return text.replace(key, "…") if key else text


def endpoint(
    base_url: str | None = None, *, key_file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Endpoint:
    """The endpoint named, else OPENAI_BASE_URL's, else OpenAI's, with the key that belongs to its host.

    Raises UsageError for a URL that cannot be asked, for a key over plain http to another machine, and where OpenAI's
    own has no key.
    """
    url = (base_url or environ.get("OPENAI_BASE_URL", "").strip() or OFFICIAL).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise UsageError(f"base_url={url}: write a URL such as {OFFICIAL} or http://localhost:11434/v1")
    host, local = host_of(url), _is_local(parts.hostname)
    key = find_key(host, file=key_file, environ=environ)
    if key and parts.scheme == "http" and not local:
        raise UsageError(f"base_url={url}: the key of {host} goes over https alone, or to this machine: write https://")
    return Endpoint(url, host, key, local)


def require_key(endpoint: Endpoint) -> None:
    """Raise UsageError with the ways to set a key, where OpenAI's own has none."""
    if endpoint.official and endpoint.key is None:
        raise UsageError(
            f"{OPENAI} needs a key, and there is none: genreg keys set openai, or set OPENAI_API_KEY; "
            "a server of your own goes by --option base_url=http://localhost:11434/v1"
        )


def host_of(url: str) -> str:
    """The host of a URL as keys are bound to it: lower case, with the port where that is not the usual one.

    >>> host_of("https://API.openai.com:443/v1"), host_of("http://localhost:11434/v1")
    ('api.openai.com', 'localhost:11434')
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise UsageError(f"base_url={url}: the port is no number from 0 to 65535") from None
    host = (parts.hostname or "").lower().rstrip(".")
    host = f"[{host}]" if ":" in host else host
    return host if port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f"{host}:{port}"


def client(endpoint: Endpoint, *, timeout: float, connections: int) -> AsyncOpenAI:
    """The official client, without its retries and without following redirects, which would carry the request away.

    ``timeout`` is the longest silence in seconds. Close it, or use it as a context.
    """
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpx2Client

    from genreg_openai.spread import spread

    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    http = DefaultAsyncHttpx2Client(limits=limits, transport=spread(connections), follow_redirects=False)
    key = endpoint.key.get_secret_value() if endpoint.key else "none"
    waits = httpx2.Timeout(timeout, connect=min(timeout, 10.0))
    return AsyncOpenAI(api_key=key, base_url=endpoint.base_url, max_retries=0, timeout=waits, http_client=http)


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
