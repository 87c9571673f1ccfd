"""``python -m trackdesk_worker.telemetry.probe URL``: exit 0 if it answers 200. For HEALTHCHECK, which has no curl."""

import sys
import urllib.error
import urllib.request

TIMEOUT_S = 4.0


def probe(url: str, *, timeout_s: float = TIMEOUT_S) -> tuple[bool, str]:
    """Return whether `url` answers 200, and what it says. Never goes through a proxy."""
    if not url.startswith("http://"):
        return False, "the address must start with http://"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return answer.status == 200, answer.read(500).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return False, error.read(500).decode("utf-8", "replace")
    except OSError as error:
        return False, str(error)


def main() -> int:
    """Probe the address on the command line."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m trackdesk_worker.telemetry.probe URL\n")
        return 2
    ok, detail = probe(sys.argv[1])
    sys.stdout.write(detail + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
