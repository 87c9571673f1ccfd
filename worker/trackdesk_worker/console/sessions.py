"""Browser sessions: opaque ids in bounded memory. A restart signs everyone out."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from trackdesk_worker.console.access import AccessFile, Person

COOKIE = "trackdesk_session"
LIFE_S = 12 * 3600
IDLE_S = 3600
MOST = 1000


@dataclass(slots=True)
class _Session:
    name: str
    digest: str
    """Hash of the token that opened it; the session ends when the person's token changes."""
    opened: float
    used: float


class Sessions:
    """The open sessions. Not thread-safe: the event loop owns it."""

    def __init__(self, file: AccessFile, *, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._open: OrderedDict[str, _Session] = OrderedDict()

    def open(self, person: Person) -> str:
        """Open a session; return the value of its cookie."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        self._open[_key(secret)] = _Session(person.name, person.digest or "", now, now)
        while len(self._open) > MOST:
            self._open.popitem(last=False)
        return secret

    def find(self, secret: str) -> Person | None:
        """Return the person of a session cookie, with their current role.

        Raises:
            AccessInvalid: the token file is invalid.
        """
        session = self._open.get(_key(secret))
        if session is None:
            return None
        now = self._clock()
        person = self._file.people().by_name.get(session.name)
        over = now - session.opened > LIFE_S or now - session.used > IDLE_S
        if over or person is None or person.digest != session.digest:
            self.close(secret)
            return None
        session.used = now
        return person

    def close(self, secret: str) -> None:
        """Close a session."""
        self._open.pop(_key(secret), None)


def _key(secret: str) -> str:
    """Return the key of a session: a hash, so that memory holds no usable secret."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
