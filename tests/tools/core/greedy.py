"""What a parser may do with a file that was made for it. See test_apart.py."""

import mmap
import os
import sys
import tempfile
import time

from tools.core import apart


def main() -> None:
    apart.limit(1)
    match sys.argv[1]:
        case "memory":
            mmap.mmap(-1, 2 * apart.MEMORY)  # Nothing is written there, so it takes no time.
        case "processor":
            while True:
                pass
        case "disk":
            with tempfile.TemporaryFile() as file:
                file.write(b"x")
        case "patience":
            time.sleep(3600)
        case "environment":
            sys.stdout.write(" ".join(sorted(os.environ)))
        case _:
            sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])


if __name__ == "__main__":
    main()
