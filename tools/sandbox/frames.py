"""Messages between us and the runner in a sandbox, as the host reads them: every byte may be hostile."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

from tools.sandbox.base import MIB

_HEADER = struct.Struct(">II")
#: More than the largest display, as JSON with its bytes in base64; and more than the variables that are kept.
LARGEST_HEADER, LARGEST_PAYLOAD = 16 * MIB, 80 * MIB
_READ = 256 * 1024


class Forged(Exception):
    """What came is no message of our runner."""


def send(channel: socket.socket, header: dict[str, Any], payload: bytes = b"") -> None:
    """Write one message. Raises OSError, TimeoutError among them, if nobody reads it."""
    data = json.dumps(header).encode()
    channel.sendall(_HEADER.pack(len(data), len(payload)) + data)
    if payload:
        channel.sendall(payload)


class Reader:
    """Makes messages of what arrives, in pieces of any size."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._data = bytearray()

    def read(self) -> bool:
        """Take what is there. False at the end."""
        try:
            data = self._channel.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self._data += data
        return bool(data)

    def discard(self) -> None:
        """Forget the whole messages that are there. Raises Forged."""
        before = -1
        while before != len(self._data) and len(self._data) <= LARGEST_HEADER + LARGEST_PAYLOAD:
            before = len(self._data)
            self.read()
        for _ in self.messages():
            pass

    def messages(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The whole ones among what was taken. Raises Forged."""
        while len(self._data) >= _HEADER.size:
            header_size, payload_size = _HEADER.unpack_from(self._data)
            if header_size > LARGEST_HEADER or payload_size > LARGEST_PAYLOAD:
                raise Forged("a message larger than any of ours")
            end = _HEADER.size + header_size + payload_size
            if len(self._data) < end:
                return
            header = bytes(self._data[_HEADER.size : _HEADER.size + header_size])
            payload = bytes(self._data[_HEADER.size + header_size : end])
            del self._data[:end]
            yield _parsed(header), payload


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Forged("a message that is no JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise Forged("a message without a type")
    return header
