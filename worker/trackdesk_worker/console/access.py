"""Roles, and the token file that lists people with the hashes of their tokens.

One line per person: name, role, SHA-256 of the token (``-``: no token, a proxy authenticates them), creation time. A
token is 256 random bits, so a fast hash is enough: it cannot be guessed.
"""

import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from trackdesk_worker.ops.errors import OpsError

TOKEN_PREFIX = "tdk_"  # noqa: S105 - lets secret scanners recognise a token
MAX_FILE_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
NO_TOKEN = "-"  # noqa: S105 - a marker in the file


class AccessInvalid(OpsError):
    """The token file is invalid; the message names file, line and rule. Until it is fixed, all access is refused."""


class Role(StrEnum):
    """What a person may do. Each role includes the one before it."""

    VIEWER = "viewer"
    """See everything, with personal data masked."""
    OPERATOR = "operator"
    """Redrive, edit, cancel, pause and resume; reveal personal data of single sales (audited)."""
    ADMIN = "admin"
    """Discard, and export lists with personal data (audited)."""

    def covers(self, wanted: "Role") -> bool:
        """Return whether this role includes `wanted`."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, slots=True)
class Person:
    """One line of the file."""

    name: str
    role: Role
    digest: str | None
    """SHA-256 of the token; None: a proxy authenticates this person."""
    made: str


@dataclass(frozen=True, slots=True)
class People:
    """All people in the file."""

    by_name: Mapping[str, Person] = field(default_factory=dict)
    by_digest: Mapping[str, Person] = field(default_factory=dict)


class AccessFile:
    """The token file, read again when it changes. A missing or invalid file refuses all access."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._people = People()

    def people(self) -> People:
        """Return the people in the file.

        Raises:
            AccessInvalid: the file cannot be read or breaks a rule.
        """
        try:
            status = self.path.stat()
        except OSError as error:
            raise AccessInvalid(
                f"{self.path} cannot be read ({error.strerror}): create it with `trackdesk console token NAME`"
            ) from error
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            self._people, self._stamp = read_people(self.path), stamp
        return self._people

    def by_token(self, token: str) -> Person | None:
        """Return the owner of a token, or None."""
        return self.people().by_digest.get(digest_of(token))


def digest_of(token: str) -> str:
    """Return the hash that the file holds for a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def is_name(text: str) -> bool:
    """Return whether `text` is a valid person name: safe in logs and in the file."""
    return _NAME.fullmatch(text) is not None


def read_people(path: Path) -> People:
    """Read the file.

    Raises:
        AccessInvalid: it cannot be read, users other than its owner may write it, or a line breaks a rule.
    """
    try:
        status = path.stat()
        if status.st_size > MAX_FILE_BYTES:
            raise AccessInvalid(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise AccessInvalid(f"{path} is writable by users other than its owner: run `chmod go-w {path}`")
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise AccessInvalid(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AccessInvalid(f"{path} is not UTF-8 text") from error
    by_name: dict[str, Person] = {}
    by_digest: dict[str, Person] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        person = _person(path, number, line)
        if person.name in by_name:
            raise AccessInvalid(f"{path} line {number}: {person.name} is listed twice")
        by_name[person.name] = person
        if person.digest is not None:
            by_digest[person.digest] = person
    return People(by_name, by_digest)


def _person(path: Path, number: int, line: str) -> Person:
    words = line.split()
    if len(words) != 4:
        raise AccessInvalid(
            f"{path} line {number}: expected `name role sha256 created`, as `trackdesk console token` writes it"
        )
    name, role, digest, made = words
    if not is_name(name):
        raise AccessInvalid(f"{path} line {number}: a name has 1 to 64 characters of A-Z a-z 0-9 . _ @ + -")
    if role not in set(Role):
        raise AccessInvalid(f"{path} line {number}: the role is one of {', '.join(Role)}")
    if digest != NO_TOKEN and not _DIGEST.fullmatch(digest):
        raise AccessInvalid(
            f"{path} line {number}: the third field is a SHA-256, or - for a person whom a proxy authenticates"
        )
    return Person(name, Role(role), None if digest == NO_TOKEN else digest, made)


def grant(path: Path, name: str, role: Role, *, with_token: bool = True) -> str | None:
    """Give a person a role and, unless a proxy authenticates them, a new token; return the token, which is not stored.

    The person's previous token stops working.

    Raises:
        AccessInvalid: the name or the file is invalid.
    """
    if not is_name(name):
        raise AccessInvalid("a name has 1 to 64 characters of A-Z a-z 0-9 . _ @ + - and begins with a letter or digit")
    people = dict(read_people(path).by_name) if path.exists() else {}
    token = TOKEN_PREFIX + secrets.token_urlsafe(32) if with_token else None
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    people[name] = Person(name, role, None if token is None else digest_of(token), made)
    _write(path, people)
    return token


def revoke(path: Path, name: str) -> bool:
    """Remove a person; return whether they were listed. Their sessions end immediately."""
    people = dict(read_people(path).by_name)
    found = people.pop(name, None)
    if found is not None:
        _write(path, people)
    return found is not None


def _write(path: Path, people: Mapping[str, Person]) -> None:
    """Replace the file atomically."""
    lines = [f"{one.name} {one.role} {one.digest or NO_TOKEN} {one.made}\n" for one in people.values()]
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(["# name role sha256-of-token made: written by `trackdesk console token`\n", *lines])
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            before = path.stat()
            if before.st_uid != os.geteuid():
                os.chown(temporary, before.st_uid, before.st_gid)
            Path(temporary).chmod(stat.S_IMODE(before.st_mode))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
