"""A server whose clock a test moves, by Debian's libfaketime."""

import shlex
import time
from pathlib import Path

import redis

from tests.support.waiting import wait_until

LIBRARY = "faketime/libfaketimeMT.so.1"
READ_EVERY_S = 1
SLACK_S = 5


def libfaketime() -> Path | None:
    """Return the library, or None if this machine has none."""
    return next(Path("/usr/lib").glob(f"*/{LIBRARY}"), None)


class FakedClock:
    """`binary` starts the real one with a clock that goes as far wrong as `jump` says."""

    def __init__(self, directory: Path, binary: Path) -> None:
        library = libfaketime()
        assert library is not None, "libfaketime is not installed"
        self._offset = directory / "clock-offset"
        self._set(0)
        self.binary = directory / "server-with-a-clock"
        self.binary.write_text(
            "#!/bin/sh\n"
            # glibc's allocator: jemalloc, with which Debian builds Redis, asks for the time while the library begins.
            f"export LD_PRELOAD={library}:libc.so.6 FAKETIME_TIMESTAMP_FILE={shlex.quote(str(self._offset))}\n"
            # Its timers go on as they should: it is the time of day that is wrong.
            f"export FAKETIME_CACHE_DURATION={READ_EVERY_S} FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n"
            f'exec {shlex.quote(str(binary))} "$@"\n',
            "utf-8",
        )
        self.binary.chmod(0o755)

    def jump(self, offset_s: int, *, port: int) -> None:
        """Set the clock so many seconds before the true time; return when it says so."""
        self._set(offset_s)
        with redis.Redis(port=port) as client:

            def seen() -> bool:
                return abs(client.time()[0] - time.time() - offset_s) < SLACK_S

            wait_until(seen, f"the server's clock is {offset_s} s off", within_s=10)

    def _set(self, offset_s: int) -> None:
        self._offset.write_text(f"{offset_s:+d}\n", "utf-8")
