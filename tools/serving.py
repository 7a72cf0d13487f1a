"""How files are sent out: so that they cannot do harm, whatever is in them, and in the pieces that players ask for."""

import re
import zipfile
from collections.abc import Iterable, Iterator

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header

from tools.core import peek
from tools.core.context import safe_name
from tools.models import Resource

# Raster images, sound and film cannot carry script. SVG and HTML can, so they are only ever downloaded.
INLINE_TYPES = peek.IMAGES | peek.AUDIO | peek.VIDEO

_PIECE = 256 * 1024


def resource_response(resource: Resource, request: HttpRequest | None = None, *, inline: bool = False) -> HttpResponse:
    """The file as a response that cannot do harm: whatever is in it, no browser runs it as a part of this site.

    `inline` holds for the types above only. A `request` may want a range of it. Raises Resource.DoesNotExist where the
    file has gone. It is read at once, as none is large, and an ASGI server would do so anyway.
    """
    wanted = _range(request.headers.get("Range", "") if request else "", resource.size)
    if wanted is not None and not wanted:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{resource.size}"})
    try:
        with resource.file.open("rb") as file:
            if wanted:
                file.seek(wanted.start)
            content = file.read(len(wanted)) if wanted else file.read()
    except FileNotFoundError:
        raise Resource.DoesNotExist(f"The file of {resource.id} has gone.") from None
    shown = inline and resource.media_type in INLINE_TYPES
    response = HttpResponse(
        content,
        status=206 if wanted else 200,
        content_type=resource.media_type if shown else "application/octet-stream",
        headers={
            "Accept-Ranges": "bytes",
            "Content-Disposition": content_disposition_header(not shown, safe_name(resource.name)) or "attachment",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, max-age=3600",
        },
    )
    if wanted:
        response["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{resource.size}"
    return response


def _range(header: str, size: int) -> range | None:
    """The bytes that are wanted: None for all of them (also where the header is none, or asks for several ranges),
    empty where there are none such."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:  # The last so many.
        return range(max(0, size - int(last)), size)
    return range(int(first), min(int(last) + 1 if last else size, size))


class _Sink:
    """A file that hands on what is written into it."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        data = b"".join(self._written)
        self._written.clear()
        return data


def as_zip(resources: Iterable[tuple[str, Resource]]) -> Iterator[bytes]:
    """An archive of files by name, made while it is sent. A file that has gone is left out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for name, resource in resources:
            try:
                source = resource.file.open("rb")
            except FileNotFoundError:
                continue
            entry = zipfile.ZipInfo(name, resource.created_at.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            with source, archive.open(entry, "w") as into:
                while piece := source.read(_PIECE):
                    into.write(piece)
                    yield sink.taken()
    yield sink.taken()
