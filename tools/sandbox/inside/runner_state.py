"""Inside the sandbox: which variables can be kept, and making them again. The host never looks into the bytes.

All variables are written with one pickler and read with one unpickler, each in a piece of its own. So what two of them
share stays shared, and one that cannot be read does not take the others with it.
"""

import hashlib
import io
import json
import os
import pickle
import sys

import cloudpickle


class TooLarge(Exception):
    pass


class Pickler(cloudpickle.Pickler):
    """Refuses what can be written, and ends Python when it is read again."""

    def reducer_override(self, obj):
        ctypes = sys.modules.get("ctypes")
        if ctypes and isinstance(obj, (ctypes.CDLL, ctypes._CFuncPtr)):
            raise pickle.PicklingError("a library of C cannot be kept")
        return super().reducer_override(obj)


class Bounded(io.BytesIO):
    def __init__(self, limit):
        super().__init__()
        self._limit = limit

    def write(self, data):
        if self.tell() + memoryview(data).nbytes > self._limit:  # Arrays come as they are, which have no length.
            raise TooLarge
        return super().write(data)


def fingerprint():
    """Changes with the Python and the packages: a pickle of one set need not be one for another."""
    packages = sorted(name for name in os.listdir("/sbx/site") if name.endswith(".dist-info"))
    return hashlib.sha256(json.dumps([1, sys.version_info[:2], packages]).encode()).hexdigest()


def save(shell, limit):
    """The names that were kept, those that were not with the reason, and bytes."""
    variables = {name: value for name, value in shell.user_ns.items() if is_variable(shell, name)}
    lost = {}
    while True:
        file, pieces = Bounded(limit), []
        pickler = Pickler(file, protocol=5)
        for name, value in variables.items():
            if name in lost:
                continue
            start = file.tell()
            try:
                pickler.dump(value)
            except TooLarge:
                lost[name] = f"{kind(value)}, too large to keep"
                break
            except Exception:
                lost[name] = kind(value)
                break
            pieces.append([name, file.tell() - start])
        else:
            break  # A pickler that failed may refer to what it never wrote, so we began anew without that name.
    header = json.dumps({"fingerprint": fingerprint(), "pieces": pieces}).encode()
    return [name for name, _ in pieces], lost, header + b"\n" + file.getvalue()


def load(shell, blob):
    """The names that are there again, and those that are not with the reason."""
    line, _, data = blob.partition(b"\n")
    header = json.loads(line)
    names = [name for name, _ in header["pieces"]]
    if header["fingerprint"] != fingerprint():
        return [], dict.fromkeys(names, "made by other versions of Python or its packages")
    source = Source()
    reader = Unpickler(source, shell.user_ns)
    kept, lost, start = [], {}, 0
    for name, length in header["pieces"]:
        source.data = io.BytesIO(data[start : start + length])
        start += length
        try:
            shell.user_ns[name] = reader.load()
            kept.append(name)
        except Exception as error:
            lost[name] = f"{type(error).__name__}: {error}"[:200]
            memo = reader.memo.copy()
            reader = Unpickler(source, shell.user_ns)
            reader.memo = memo
    return kept, lost


def is_variable(shell, name):
    return not name.startswith("_") and name not in shell.user_ns_hidden


def kind(value):
    cls = type(value)
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"


class Source:
    """A file of which the unpickler reads one piece after the other."""

    data = io.BytesIO()

    def read(self, count=-1):
        return self.data.read(count)

    def readinto(self, buffer):
        return self.data.readinto(buffer)

    def readline(self):
        return self.data.readline()


class Unpickler(pickle.Unpickler):
    """Functions get the variables of the session as their globals, so that they see what is assigned later."""

    def __init__(self, file, variables):
        super().__init__(file)
        self._variables = variables

    def find_class(self, module, name):
        found = super().find_class(module, name)
        if (module, name) != ("cloudpickle.cloudpickle", "_make_function"):
            return found

        def make(code, base_globals, *rest):
            is_own = base_globals.get("__name__") == "__main__"
            return found(code, self._variables if is_own else base_globals, *rest)

        return make
