"""Getting a text from the web, without being led into the operator's own network."""

import asyncio
import json
import zlib

import httpx2
from django.conf import settings

from tools.core.http import GuardedTransport

MAX_BYTES = 2 * 1024 * 1024
MAX_REDIRECTS = 3
MAX_URL_LENGTH = 2_000
SECONDS = 15.0

_HEADERS = {
    "User-Agent": "AgentSite (fetch_page)",
    "Accept": "text/html, text/*;q=0.9, application/json;q=0.9, */*;q=0.1",
    "Accept-Encoding": "gzip",
}


async def download(url: str) -> tuple[str, str, str | None, bytes]:
    """Final address, media type, charset if one was declared, and body. Raises ValueError with a sentence."""
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"The address is longer than {MAX_URL_LENGTH:,} characters. Leave out what it does not need.")
    try:
        async with asyncio.timeout(SECONDS):
            return await _follow(url)
    except TimeoutError:
        raise ValueError(f"{url} did not answer within {SECONDS:g} seconds.") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ValueError(f"{url} cannot be read: {error or type(error).__name__}") from None


async def _follow(url: str) -> tuple[str, str, str | None, bytes]:
    """Each hop of a redirect is checked anew."""
    transport = GuardedTransport(settings.FETCH_ALLOWED_HOSTS)
    async with httpx2.AsyncClient(transport=transport, trust_env=False, headers=_HEADERS, timeout=SECONDS) as client:
        target = httpx2.URL(url.strip())
        for _ in range(MAX_REDIRECTS + 1):
            if target.scheme not in {"http", "https"} or not target.host:
                raise ValueError(f"{str(target)[:200]!r} is not a web address. Give one that begins with https://.")
            if target.userinfo:
                raise ValueError("The address contains a user name or password. Leave it out.")
            async with client.stream("GET", target, follow_redirects=False) as response:
                if response.has_redirect_location:
                    target = target.join(response.headers["location"])
                    continue
                if not response.is_success:
                    raise ValueError(f"{target} answered {response.status_code} {response.reason_phrase}.")
                kind = response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
                if not (kind.startswith("text/") or kind in {"application/json", "application/xhtml+xml"}):
                    raise ValueError(f"{target} is of the type {kind}. Only text, HTML and JSON can be read.")
                return str(target), kind, response.charset_encoding, await _body(response)
    raise ValueError(f"{url} redirects more than {MAX_REDIRECTS} times.")


async def _body(response: httpx2.Response) -> bytes:
    """The unpacked body, MAX_BYTES at most. Unpacked here, because a library would unpack a bomb to its end."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise ValueError(f"{response.url} is packed as {encoding}, which was not asked for and cannot be read.")
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += unpack.decompress(chunk, MAX_BYTES + 1 - len(body)) if unpack else chunk
        except zlib.error:
            raise ValueError(f"{response.url} is packed wrongly and cannot be read.") from None
        if len(body) > MAX_BYTES:
            raise ValueError(f"{response.url} is larger than {MAX_BYTES // 1024**2} MB, which is too much to read.")
    return bytes(body)


def as_text(kind: str, charset: str | None, body: bytes) -> str:
    try:
        text = body.decode(charset or "utf-8", "replace")
    except LookupError:  # A charset that does not exist.
        text = body.decode("utf-8", "replace")
    if kind == "application/json":
        try:
            return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
        except (ValueError, RecursionError):
            return text
    return text
