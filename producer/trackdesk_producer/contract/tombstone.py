"""What is left of a job that has ended, as small as it can be: a tombstone stays for the whole dedupe window.

::

    t1 pQ2x9v0Lk 100.50EUR692a1c0005            paired, once, 5 s after it was accepted
    t1 DQ2x9v0Lk -692a1c003f2 7 somehow         delivered in a way without a letter, after 7 requests

Behind the format a letter for state and reason (`ENDS`; an upper-case one for the state alone, the reason is then the
last word) and the first eight characters of the fingerprint; amount and currency, or ``-``; when it was accepted, in
seconds as eight hexadecimal digits, and how many seconds later it ended; then, if more is to be said, the number of
requests, and the reason. Eight characters are 48 bits: one in 2.8 * 10^14 sales that come again with other content
after their end would be taken for the same.
"""

import re

ENDS = {
    "p": ("delivered", "paired"),
    "u": ("delivered", "unpaired"),
    "k": ("delivered", "confirmed_duplicate"),
    "c": ("cancelled", "by_caller"),
    "D": ("delivered", None),
    "C": ("cancelled", None),
    "X": ("discarded", None),
}
"""State and reason by letter. Letters are only ever added."""

_TOMBSTONE = re.compile(
    r"t[0-9]+ ([A-Za-z])(\S*) ([0-9.]*)([A-Z]+|-)([0-9a-f]{8})([0-9a-f]+)(?: ([0-9]+)(?: (\S+))?)?(?: .*)?"
)


def read_tombstone(text: str) -> dict[str, str]:
    """Return the words that a live record has too, by name; times in milliseconds.

    Raises:
        ValueError: if the text is no tombstone.
    """
    found = _TOMBSTONE.fullmatch(text)
    if found is None or found[1] not in ENDS:
        raise ValueError("it is no tombstone")
    letter, fingerprint, amount, currency, accepted, later, attempts, word = found.groups()
    state, reason = ENDS[letter]
    return {
        "state": state,
        "fingerprint": fingerprint,
        "amount": amount or "-",
        "currency": currency,
        "accepted": str(int(accepted, 16) * 1000),
        "at": str((int(accepted, 16) + int(later, 16)) * 1000),
        "attempts_total": attempts or "1",
        "reason": reason or word or "-",
    }


def lua_ends() -> dict[str, str]:
    """Return `ENDS` as the fields of two Lua tables: ``letters`` to write a tombstone, ``ends`` to read one."""
    return {
        "letters": ", ".join(
            f"['{state}:{reason}'] = '{letter}'" if reason else f"['{state}'] = '{letter}'"
            for letter, (state, reason) in ENDS.items()
        ),
        "ends": ", ".join(
            f"{letter} = {{ '{state}', '{reason}' }}" if reason else f"{letter} = {{ '{state}' }}"
            for letter, (state, reason) in ENDS.items()
        ),
    }
