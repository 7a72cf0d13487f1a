"""What runs inside a sandbox: a Python that keeps its variables and does what it is told over a socket.

`python -I -B -u runner.py <descriptor> <limits as JSON>`; without buffers, because programs that code starts print to
the same pipes. Messages both ways are two lengths (4 bytes each), JSON, and raw bytes. Requests have `op` and `id`;
each is answered by one "done" with that id, before it "display" for what is shown. What code prints goes through the
pipes of standard output and error, not through here. Everything after the first request may have been made by hostile
code, and whoever reads our messages treats them so.
"""

import base64
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading

HEADER = struct.Struct(">II")
FOLDERS = ("/workspace", "/tmp", "/dev/shm")  # noqa: S108  (of the sandbox, where nobody else is)
TEXTS = ("text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "application/json")
BINARIES = ("image/png", "image/jpeg")
LONGEST_ERROR = 64 * 1024


class Channel:
    """The socket to the host. A message is written as a whole, whichever thread writes it."""

    def __init__(self, descriptor):
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()

    def send(self, header, payload=b"", descriptors=()):
        data = json.dumps(header).encode()
        head = HEADER.pack(len(data), len(payload))
        with self._lock:
            if descriptors:
                socket.send_fds(self._socket, [head], list(descriptors))
            else:
                self._socket.sendall(head)
            self._socket.sendall(data)
            if payload:
                self._socket.sendall(payload)

    def receive(self):
        lengths = HEADER.unpack(self._exactly(HEADER.size))
        header = json.loads(self._exactly(lengths[0]))
        return header, self._exactly(lengths[1])

    def _exactly(self, count):
        data = bytearray(count)
        view = memoryview(data)
        while view:
            read = self._socket.recv_into(view)
            if not read:
                os._exit(0)  # The host is gone.
            view = view[read:]
        return bytes(data)


class Runner:
    """Does what the host asks, one request after the other."""

    def __init__(self, channel, limits):
        self.channel = channel
        self.limits = limits
        self.request = 0
        self.displays = 0
        self.error = None
        self.shell = make_shell(self)

    def serve(self):
        own = os.getpid()
        while True:
            header, payload = self.channel.receive()
            self.request, self.displays, self.error = header["id"], 0, None
            reap()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                answer, data = getattr(self, header["op"])(header, payload)
            except KeyboardInterrupt:
                answer, data = {"failed": "interrupted"}, b""
            except (Exception, SystemExit) as error:
                answer, data = {"failed": f"{type(error).__name__}: {error}"[:1000]}, b""
            finally:
                quieten()
                if os.getpid() != own:  # Code forked, and its child came back here.
                    os._exit(0)
            self.channel.send({"type": "done", "id": header["id"], **answer}, data)

    def execute(self, header, payload):
        self.shell.run_cell(header["code"], store_history=True)
        sys.stdout.flush()
        sys.stderr.flush()
        return {"error": self.error}, b""

    def put(self, header, payload):
        path = os.path.join("/workspace", header["name"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        with open(path, "xb") as file:
            file.write(payload)
        return {}, b""

    def save(self, header, payload):
        import runner_state

        kept, lost, blob = runner_state.save(self.shell, self.limits["state"])
        return {"kept": kept, "lost": lost}, blob

    def load(self, header, payload):
        import runner_state

        kept, lost = runner_state.load(self.shell, payload)
        return {"kept": kept, "lost": lost}, b""

    def show(self, kind, data):
        """Send a MIME bundle, in the forms that are known and as far as there is room."""
        self.displays += 1
        if self.displays > self.limits["displays"]:
            return
        told, room = {}, self.limits["display"]
        for name in (*BINARIES, *TEXTS):
            value = data.get(name)
            if isinstance(value, bytes):
                value = base64.b64encode(value).decode()
            elif value is not None and not isinstance(value, str):
                value = json.dumps(value, default=str)
            if value is not None and len(value) * 4 // 3 <= room:
                told[name] = value.encode("utf-8", "replace").decode()
                room -= len(value)
        self.channel.send({"type": "display", "id": self.request, "kind": kind, "data": told})

    def fail(self, name, value, lines):
        text = "\n".join(lines)
        if len(text) > LONGEST_ERROR:
            text = f"{text[: LONGEST_ERROR // 2]}\n[…]\n{text[-LONGEST_ERROR // 2 :]}"
        self.error = {"name": name, "value": value[: LONGEST_ERROR // 8], "traceback": text}


def make_shell(runner):
    """IPython's shell, without a terminal, history or files of its own, that shows through `runner`."""
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Hook(DisplayHook):
        def write_output_prompt(self):
            pass

        def write_format_data(self, format_dict, md_dict=None):
            runner.show("result", format_dict)

        def finish_displayhook(self):
            pass

    class Publisher(DisplayPublisher):
        def publish(self, data, metadata=None, *, transient=None, update=False, **kwargs):
            runner.show("display", data)

        def clear_output(self, wait=False):
            pass

    class Shell(InteractiveShell):
        def _showtraceback(self, etype, evalue, stb):
            runner.fail(etype.__name__, str(evalue), stb if isinstance(stb, list) else str(stb).splitlines())

        def enable_gui(self, gui=None):
            pass

        def ask_exit(self):
            pass

    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.cache_size = 100
    config.InteractiveShell.autocall = 0
    return Shell.instance(config=config, displayhook_class=Hook, display_pub_class=Publisher)


def quieten():
    """Back to a state in which nothing disturbs the reading of the next request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.alarm(0)


def reap():
    """Children that were ended between two calls count as processes until somebody asks for them."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError:
        pass


def limit(limits):
    """The limits of each process, for good: the soft ones are the hard ones."""
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    os.nice(10)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # There is no /proc in some containers; the host has done it then, if it may.


def prepare_folders():
    for folder in ("/tmp/home", "/tmp/home/mpl"):  # noqa: S108
        os.makedirs(folder, exist_ok=True)
    try:
        for name in os.listdir("/sbx/mpl"):  # The list of fonts; see tools/sandbox/fonts.py.
            os.symlink(f"/sbx/mpl/{name}", f"/tmp/home/mpl/{name}")  # noqa: S108
    except OSError:
        pass
    os.chdir("/workspace")


def main():
    settings = json.loads(sys.argv[2])
    quieten()
    os.umask(0o022)
    limit(settings["rlimits"])
    prepare_folders()
    sys.path.insert(0, "/sbx/site")
    sys.path.append("/sbx")
    sys.argv = [""]
    sys.stdout.reconfigure(errors="backslashreplace")
    runner = Runner(Channel(int(sys.orig_argv[-2])), settings)
    sys.path.insert(0, "")
    folders = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in FOLDERS]
    runner.channel.send({"type": "ready"}, descriptors=folders)
    for folder in folders:
        os.close(folder)
    runner.serve()


if __name__ == "__main__":
    main()
