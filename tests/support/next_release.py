"""A next release of the record's contract, for this process only: a substitute for code that is not written yet.

`become` must run before anything else of the product is imported: it changes the tables that scripts and readers are
made from, which is all that a release with another record would change.
"""

from collections.abc import Callable

from trackdesk_producer.contract import record

ADDED = "added"
"""The next release has one more word behind the known ones; the format is the same."""
REARRANGED = "rearranged"
"""A release after it has a record that today's cannot read: another format word, and the words in another order."""
WORD = "novel"


def become(kind: str) -> None:
    """Turn this process into one of a later release."""
    fields, base = record.FORMATS[record.FORMAT_LIVE]
    if kind == ADDED:
        record.LIVE_FIELDS = (*fields, WORD)  # type: ignore[assignment]
        record.FORMATS[record.FORMAT_LIVE] = (record.LIVE_FIELDS, base)
        return
    assert kind == REARRANGED
    record.LIVE_FIELDS = ("format", *reversed(fields[1:base]), *fields[base:], WORD)  # type: ignore[assignment]
    record.FORMATS["2"] = (record.LIVE_FIELDS, base)
    record.TOMBSTONE_FORMATS.add("t2")
    record.FORMAT_LIVE, record.FORMAT_TOMBSTONE = "2", "t2"


def remember() -> Callable[[], None]:
    """Return what turns this process back into one of the release that it is now."""
    formats, tombstones = dict(record.FORMATS), set(record.TOMBSTONE_FORMATS)
    names = {name: getattr(record, name) for name in ("LIVE_FIELDS", "FORMAT_LIVE", "FORMAT_TOMBSTONE")}

    def back() -> None:
        record.FORMATS.clear()
        record.FORMATS.update(formats)
        record.TOMBSTONE_FORMATS.intersection_update(tombstones)
        for name, value in names.items():
            setattr(record, name, value)

    return back


def planted(kind: str) -> str:
    """Return the Python that a process runs first to become one of that release."""
    return f"from tests.support.next_release import become; become({kind!r})"
