"""Pictures that an answer names by URL: fetched from the server that was asked and from no other, up to a size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

from genreg.errors import UsageError
from genreg_openai.calls import Failure
from genreg_openai.endpoint import Endpoint, host_of
from genreg_openai_image.answered import Fetch

LARGEST = 1 << 26  # bytes of one picture


@asynccontextmanager
async def fetcher(endpoint: Endpoint, *, timeout: float) -> AsyncIterator[Fetch]:
    """What fetches a picture, without the key and without following redirects; ``timeout`` is seconds of silence.

    It raises Failure for a URL of another host, for what is no picture by its type, and for more than LARGEST bytes.
    """
    import httpx2

    async with httpx2.AsyncClient(timeout=timeout, follow_redirects=False) as http:

        async def fetch(url: str) -> bytes:
            whole = urljoin(f"{endpoint.base_url}/", url)
            if not _is_same(whole, endpoint):
                raise Failure(f"a picture lies at {urlsplit(whole).netloc}, and only {endpoint.host} was asked")
            try:
                async with http.stream("GET", whole) as response:
                    kind = response.headers.get("content-type", "")
                    if response.status_code != 200:
                        raise Failure(f"{endpoint.host} answered {response.status_code} for a picture")
                    if not kind.startswith(("image/", "application/octet-stream")):
                        raise Failure(f"{endpoint.host} sent {kind or 'something'} for a picture")
                    data = bytearray()
                    async for part in response.aiter_bytes():
                        data += part
                        if len(data) > LARGEST:
                            raise Failure(f"{endpoint.host} sent a picture of more than {LARGEST:,} bytes")
            except httpx2.HTTPError as error:
                raise Failure(f"a picture was lost on its way from {endpoint.host} ({error})") from None
            return bytes(data)

        yield fetch


def _is_same(url: str, endpoint: Endpoint) -> bool:
    """Whether a URL has the endpoint's scheme and host, port included."""
    try:
        return urlsplit(url).scheme == urlsplit(endpoint.base_url).scheme and host_of(url) == endpoint.host
    except (UsageError, ValueError):
        return False
