"""Filters of the pages: from a form to a search, and back to a URL. No URL names a customer or click."""

from collections.abc import Mapping
from dataclasses import dataclass

from trackdesk_worker.console.auth import RequestContext
from trackdesk_worker.ops.dead_letters.filters import PERSONAL_FIELDS, filter_fields, search_of
from trackdesk_worker.ops.timestamps import iso
from trackdesk_worker.store.dead_letters.query import Search

CARRIED = "filter_"


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as it was entered, and the search for it."""

    given: Mapping[str, str]
    """By the names of the form; without personal data."""
    search: Search

    def value(self, name: str) -> str:
        """Return what was entered in a field."""
        return self.given.get(name, "")

    @property
    def fixed(self) -> dict[str, str]:
        """The same filter for a URL that selects the same jobs later: ages become times."""
        times = {"since": self.search.since_ms, "until": self.search.until_ms}
        return {**self.given, **{name: iso(at_ms) for name, at_ms in times.items() if at_ms is not None}}


def read_filter(given: Mapping[str, str], *, now_ms: int) -> Filter:
    """Read a form's fields; unknown ones are ignored.

    Raises:
        FilterInvalid: a field cannot be read.
    """
    shown = {name: value for name, value in filter_fields(given).items() if name not in PERSONAL_FIELDS}
    return Filter(shown, search_of(given, now_ms=now_ms))


def carried(request: RequestContext) -> dict[str, str]:
    """Return the filter that a form carries in hidden fields, apart from the form's own fields of the same name."""
    return {name.removeprefix(CARRIED): value for name, value in request.form.items() if name.startswith(CARRIED)}


def in_address(request: RequestContext) -> dict[str, str]:
    """Return the filter in a URL; a click or customer is accepted in a form only."""
    return {name: value for name, value in request.query.items() if name not in PERSONAL_FIELDS}
