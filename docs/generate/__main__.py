"""Write the reference pages, or with ``--check`` exit 1 and name those that are out of date."""

import sys

from docs.generate import outdated, write


def main(arguments: list[str]) -> int:
    """Run one of the two."""
    if arguments == ["--check"]:
        names = outdated()
        if names:
            sys.stderr.write(f"out of date: {', '.join(names)}; run `make reference`\n")
        return 1 if names else 0
    if arguments:
        sys.stderr.write("usage: python -m docs.generate [--check]\n")
        return 2
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
