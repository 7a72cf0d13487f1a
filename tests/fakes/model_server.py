"""A model server to test against: real sockets, scripted answers, strict about what it is sent.

    python -m tests.fakes.model_server --port 20080

One asyncio loop. Each wire format is a module (`FORMATS`, see `tests.fakes.wire`); here are HTTP, the clock and the
record of what was asked.
`GET /_requests` gives that record as JSON, `POST /_script` fills the queue, `POST /_reset` empties both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import itertools
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import chat_completions, generate_content, messages_api, responses, script
from tests.fakes.kept_responses import KeptResponses
from tests.fakes.script import Quirk, Turn
from tests.fakes.streaming import Frame
from tests.fakes.wire import Wire

FORMATS: tuple[Wire, ...] = (generate_content, messages_api, chat_completions, responses)
MODELS = ("echo", "scripted", "stream-200-50")

_REASONS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
_REFUSALS: dict[str, tuple[int, str]] = {
    # fault → status, message
    "400": (400, "Invalid value."),
    "401": (401, "Incorrect API key provided: {key}."),
    "403": (403, "Your key may not use this model."),
    "404": (404, "The model does not exist."),
    "408": (408, "Request timed out."),
    "409": (409, "Try again."),
    "413": (413, "Payload too large."),
    "422": (422, "Unprocessable."),
    "429": (429, "Rate limit reached."),
    "500": (500, "The server had an error."),
    "503": (503, "Loading model."),
    "529": (529, "Overloaded."),
    "quota": (429, "You exceeded your current quota."),
    "api_key_invalid": (400, "API key not valid. Please pass a valid API key."),
    "context": (400, "The maximum context length is 8192 tokens."),
    "context_llama_cpp": (400, "the request exceeds the available context size"),
}
_REJECTS: dict[Quirk, tuple[bytes, str]] = {
    # quirk → what the request must not have, message; without it, the turn is the answer
    "rejects_stream_options": (b'"stream_options"', "Unrecognized request argument: stream_options"),
    "rejects_include": (b'"include"', "Encrypted content is not supported with this model."),
    "rejects_background": (b'"background"', "Background mode requires store to be true."),
    "stale_reasoning": (b'"encrypted_content"', "The encrypted content for item rs_1 could not be verified."),
}
_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@dataclass(slots=True)
class Request:
    """What was asked, and what became of it. `body` is the parsed JSON, `raw` the bytes."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Any = None
    query: str = ""
    status: int = 0
    time: float = field(default_factory=time.time)
    #: Set when the client went away before the answer was complete.
    disconnected: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "body": self.body,
            "status": self.status,
            "time": self.time,
            "disconnected": self.disconnected.is_set(),
            "answered": self.answered.is_set(),
        }


class ModelServer:
    """Use as a context manager: runs in a thread with a loop of its own, on a free port of the loopback."""

    def __init__(self, *, port: int = 0, api_key: str = "", keep_requests: bool = True) -> None:
        self.port = port
        #: The only key that is accepted; "" accepts every key.
        self.api_key = api_key
        self.requests: list[Request] = []
        #: Responses that were asked for in the background.
        self.kept = KeptResponses()
        self.connections = 0
        self._keep = keep_requests
        self._queues: dict[str, deque[Turn]] = {}
        self._ids = itertools.count(1)
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What a Chat Completions client is given."""
        return f"{self.address}/v1"

    @property
    def asked(self) -> list[Request]:
        """The requests to a model, in the order they came."""
        return [request for request in self.requests if _wire_of(request)]

    def script(self, turns: Sequence[Turn], *, model: str = "") -> None:
        """Answer the next requests (of `model`) with these turns, in this order."""
        self._queues.setdefault(model, deque()).extend(turns)

    @property
    def left_over(self) -> list[Turn]:
        """Scripted turns that nobody has asked for."""
        return [turn for queue in self._queues.values() for turn in queue]

    def reset(self) -> None:
        self.requests.clear()
        self._queues.clear()
        self.kept.reset()
        self.api_key = ""

    # --- running ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> ModelServer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self.run()), name="model server", daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the model server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop
        assert self._stop
        assert self._thread
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def run(self) -> None:
        """Serve until `__exit__`, or for ever."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._pacer = _Pacer()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=64 * 2**20, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()
        self._pacer.close()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while request := await _read_request(reader):
                if self._keep or _wire_of(request) is None:
                    self.requests.append(request)
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    # --- answering --------------------------------------------------------------------------------------------------

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may serve another."""
        match request.method, request.path:
            case "GET", "/_requests":
                return _send(request, writer, 200, json.dumps([r.to_json() for r in self.asked]).encode())
            case "POST", "/_script":
                self.script([Turn.from_json(turn) for turn in json.loads(request.raw)])
                return _send(request, writer, 200, b"{}")
            case "POST", "/_reset":
                self.reset()
                return _send(request, writer, 200, b"{}")
            case _, path if self.kept.hangs(path):
                await self._pacer.play(_hang(), reader, writer.transport)
                return False
            case _, path if self.kept.matches(path):
                return await self._look_up(request, reader, writer)
            case "GET", path:
                lister = next((wire for wire in FORMATS if wire.lists_models(path, request.headers)), None)
                if lister is None:
                    return _send(request, writer, 404, chat_completions.error_body(404, "", "Not found."))
                if self.api_key and not self._accepts(lister.key(request.headers)):
                    return self._refuse(request, writer, lister, "401")
                return _send(request, writer, 200, lister.models(MODELS))
        wire = _wire_of(request)
        if wire is None:
            return _send(request, writer, 404, chat_completions.error_body(404, "", "Not found."))
        if not self._accepts(wire.key(request.headers)):
            # Google calls a wrong key a bad request.
            return self._refuse(request, writer, wire, "api_key_invalid" if wire is generate_content else "401")
        try:
            request.body = json.loads(request.raw.decode())
        except ValueError:
            sentence = "We could not parse the JSON body of your request."
            return _send(request, writer, 400, wire.error_body(400, "", sentence))
        if sentence := wire.headers_objection(request.headers) or wire.objection(request.path, request.body):
            return _send(request, writer, 400, wire.error_body(400, "", sentence))
        try:
            asked = {**request.body, "model": wire.model(request.path, request.body)}
            turn = self._turn(asked["model"], wire.messages(request.body))
        except Exception as error:
            return _send(request, writer, 500, wire.error_body(500, "", f"The script does not fit: {error!r}"))
        for quirk, (words, sentence) in _REJECTS.items():
            if quirk in turn.quirks and words in request.raw:
                self._queues.setdefault("", deque()).appendleft(turn)
                return _send(request, writer, 400, wire.error_body(400, "", sentence))
        if turn.fault in _REFUSALS:
            return self._refuse(request, writer, wire, turn.fault, turn)
        match turn.fault:
            case "html_502":
                return _send(request, writer, 502, _PAGE, "Content-Type: text/html")
            case "html_200":
                return _send(request, writer, 200, _PAGE, "Content-Type: text/html")
            case "empty_200":
                return _send(request, writer, 200, b"", "Content-Type: text/event-stream")
            case "redirect":
                return _send(request, writer, 307, b"", f"Location: {self.address}/elsewhere{request.path}")
            case "hang":
                await self._pacer.play(_hang(), reader, writer.transport)
                request.disconnected.set()
                return False
            case "endless_500" | "endless_blank":
                status = 500 if turn.fault == "endless_500" else 200
                writer.write(
                    b"HTTP/1.1 %d Endless\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    % status
                )
                piece = (b"x" if status == 500 else b" ") * 65536
                await self._pacer.play(
                    _chunked(((0.001, piece) for _ in itertools.count()), 0), reader, writer.transport
                )
                request.disconnected.set()
                return False
        response_id = f"resp-{next(self._ids)}"
        if "json_body" in turn.quirks:
            return _send(request, writer, 200, wire.whole(turn, asked, response_id))
        if wire is responses and asked.get("background"):
            self.kept.keep(response_id, turn, asked, wire.key(request.headers))
        return await self._stream(request, reader, writer, _chunked(wire.frames(turn, asked, response_id), turn.write))

    async def _look_up(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer for a response that is kept."""
        found = self.kept.answer(request.method, request.path, request.query, responses.key(request.headers))
        if isinstance(found, tuple):
            return _send(request, writer, *found)
        return await self._stream(request, reader, writer, _chunked(found, 0))

    async def _stream(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, play: Iterator[Frame]
    ) -> bool:
        request.status = 200
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
            b"X-Request-Id: req_%d\r\nTransfer-Encoding: chunked\r\n\r\n" % next(self._ids)
        )
        if not await self._pacer.play(play, reader, writer.transport):
            request.disconnected.set()
            return False
        if writer.transport.is_closing():
            return False
        writer.write(b"0\r\n\r\n")
        request.answered.set()
        return True

    def _accepts(self, key: str) -> bool:
        return bool(key) and key == (self.api_key or key)

    def _turn(self, model: str, messages: Sequence[Mapping[str, Any]]) -> Turn:
        turn = script.directive(messages)
        for queue in (model, ""):
            if turn is None and self._queues.get(queue):
                turn = self._queues[queue].popleft()
        turn = turn or script.for_model(model, messages)
        if turn is None:
            raise LookupError(f"nothing is scripted for the model {model!r}")
        return script.resolve(turn, messages)

    def _refuse(
        self, request: Request, writer: asyncio.StreamWriter, wire: Wire, fault: str, turn: Turn | None = None
    ) -> bool:
        status, message = _REFUSALS[fault]
        text = (turn and turn.message) or message.format(key=wire.key(request.headers))
        headers = [f"Retry-After: {turn.retry_after}"] if turn and turn.retry_after else []
        return _send(request, writer, status, wire.error_body(status, fault, text), *headers)


def _wire_of(request: Request) -> Wire | None:
    """The format in which a model is asked, None if none is."""
    return next((wire for wire in FORMATS if request.method == "POST" and wire.matches(request.path)), None)


def _hang() -> Iterator[Frame]:
    while True:
        yield 0.02, b""


def _chunked(frames: Iterator[Frame], size: int) -> Iterator[Frame]:
    """The frames as HTTP chunks; with `size`, in writes of so many bytes."""
    for wait, data in frames:
        if not data:
            yield wait, data
        elif not size:
            yield wait, b"%x\r\n%b\r\n" % (len(data), data)
        else:
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                # A moment between the writes, so that they also arrive apart.
                yield wait if start == 0 else 0.0005, b"%x\r\n%b\r\n" % (len(piece), piece)


def _send(request: Request, writer: asyncio.StreamWriter, status: int, body: bytes, *headers: str) -> bool:
    request.status = status
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", *headers, f"Content-Length: {len(body)}"]
    if not any(header.startswith("Content-Type") for header in headers):
        lines.append("Content-Type: application/json")
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    request.answered.set()
    return True


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    path, _, query = path.partition("?")
    return Request(method, path, headers, body, query=query)


class _Pacer:
    """Writes many answers at their own speed with one timer; a coroutine per token would cost more than the send.

    Due times are counted from the due time before, not from the write, so that a rate is kept exactly.
    """

    QUANTUM = 0.004

    def __init__(self) -> None:
        self._due: list[tuple[float, int, _Play]] = []
        self._number = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def play(
        self, frames: Iterator[Frame], reader: asyncio.StreamReader, transport: asyncio.WriteTransport
    ) -> bool:
        """Write the frames; False when the client went away before the end."""
        loop = asyncio.get_running_loop()
        play = _Play(frames, reader, transport, loop.create_future())
        self._step(play, loop.time())
        self._arm(loop)
        return await play.done

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        for _, _, play in self._due:
            play.finish(False)

    def _step(self, play: _Play, due: float) -> None:
        if play.done.done():
            return
        if play.transport.is_closing() or play.reader.at_eof():
            play.finish(False)
            return
        if play.next is None:
            play.transport.abort()
            play.finish(True)
            return
        written = [play.next]
        for wait, data in play.frames:
            if wait or data is None:
                play.next = data
                # What was written before a break has a moment to arrive.
                heapq.heappush(self._due, (due + (wait or 0.03), next(self._number), play))
                break
            written.append(data)
            if len(written) > 256:
                # Nobody is kept waiting by an endless answer without a rate.
                play.next = b""
                heapq.heappush(self._due, (due, next(self._number), play))
                break
        else:
            play.finish(True)
        if any(written):
            play.transport.write(b"".join(written))

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._due:
            return
        when = max(self._due[0][0], loop.time() + self.QUANTUM)
        if self._timer is None or self._timer.when() > when:
            if self._timer:
                self._timer.cancel()
            self._timer = loop.call_at(when, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._due and self._due[0][0] <= now:
            due, _, play = heapq.heappop(self._due)
            self._step(play, due)
        self._arm(loop)


@dataclass(slots=True)
class _Play:
    frames: Iterator[Frame]
    reader: asyncio.StreamReader
    transport: asyncio.WriteTransport
    done: asyncio.Future[bool]
    next: bytes | None = b""

    def finish(self, whole: bool) -> None:
        if not self.done.done():
            self.done.set_result(whole)


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted Chat Completions server for tests and benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", default="", help="the only key that is accepted")
    parser.add_argument("--no-record", action="store_true", help="keep no requests (for long benchmarks)")
    options = parser.parse_args()
    with ModelServer(port=options.port, api_key=options.api_key, keep_requests=not options.no_record) as server:
        sys.stdout.write(f"{server.base_url}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
