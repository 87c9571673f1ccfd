"""What the product is made of, from the lock: a CycloneDX bill of materials, and whether every licence is allowed.

``python -m tests.tools.supply_chain sbom FILE`` and ``… licences``; both run where the locked packages are installed.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.markers import Marker
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"

ALLOWED = frozenset({"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0"})
"""None asks for more than naming authors; MPL-2.0 for its own files only, which nobody changes here."""
SPELLINGS = {
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What packages without an SPDX expression say, and what it means."""
READ = {"pyreqwest": "Apache-2.0"}
"""Declared nowhere in the package's metadata; read in the licence file it ships."""


@dataclass(frozen=True)
class Locked:
    """One entry of the lock."""

    name: str
    version: str
    hashes: tuple[str, ...]
    here: bool
    """Whether this machine's Python asks for it."""
    licence: str | None
    """An SPDX expression; None: not installed, or says nothing that is known."""


def locked(lock: Path = LOCK) -> Iterator[Locked]:
    """Yield every entry of the lock."""
    for entry in re.split(r"\n(?=[a-z0-9])", lock.read_text("utf-8").strip()):
        head = re.match(r"([a-z0-9][a-z0-9._-]*)==(\S+)(?: ; (.*?))? \\\n", entry)
        assert head is not None, entry
        name, pinned, marker = head.groups()
        here = marker is None or Marker(marker).evaluate()
        hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
        yield Locked(name, pinned, hashes, here, licence_of(name) if here else None)


def licence_of(name: str) -> str | None:
    """Return the licence an installed package declares, as an SPDX expression."""
    if name in READ:
        return READ[name]
    try:
        said: Any = metadata(name)  # a message: its type knows no get
    except PackageNotFoundError:
        return None
    expression = said.get("License-Expression")
    if expression:
        return str(expression)
    words = str(said.get("License") or "")
    classifiers = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or [] if "License ::" in line]
    for text in (words, *classifiers):
        known = text if text in ALLOWED else SPELLINGS.get(text.strip().lower())
        if known is not None:
            return known
    return None


def is_allowed(expression: str) -> bool:
    """Return whether an SPDX expression of names, AND and OR, without brackets, can be met by allowed licences."""
    return any(all(name.strip() in ALLOWED for name in choice.split(" AND ")) for choice in expression.split(" OR "))


def refused() -> list[str]:
    """Return a sentence for each package of the lock whose licence is unknown or not allowed."""
    return [
        f"{entry.name} {entry.version}: {entry.licence or 'says no licence that is known'}"
        for entry in locked()
        if entry.here and not (entry.licence and is_allowed(entry.licence))
    ]


def sbom() -> str:
    """Return the bill of materials: every locked package, its hashes and its licence."""
    licences = LicenseFactory()
    bom = Bom()
    release = version("trackdesk-worker")
    bom.metadata.component = Component(
        name="trackdesk-worker",
        version=release,
        type=ComponentType.APPLICATION,
        bom_ref="trackdesk-worker",
        licenses=[licences.make_from_string("Apache-2.0", license_acknowledgement=LicenseAcknowledgement.DECLARED)],
    )
    for entry in locked():
        declared = entry.licence
        component = Component(
            name=canonicalize_name(entry.name),
            version=entry.version,
            type=ComponentType.LIBRARY,
            scope=ComponentScope.REQUIRED if entry.here else ComponentScope.OPTIONAL,
            bom_ref=f"{entry.name}=={entry.version}",
            purl=PackageURL("pypi", None, canonicalize_name(entry.name), entry.version),
            # Several: a hash for each build that the lock admits.
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=value) for value in entry.hashes],
            licenses=[]
            if declared is None
            else [licences.make_from_string(declared, license_acknowledgement=LicenseAcknowledgement.DECLARED)],
        )
        bom.components.add(component)
        bom.register_dependency(bom.metadata.component, [component])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def main() -> int:
    """Write the bill of materials, or check the licences."""
    match sys.argv[1:]:
        case ["sbom", file]:
            Path(file).write_text(sbom(), "utf-8")
            return 0
        case ["licences"]:
            wrong = refused()
            sys.stdout.write("".join(f"{line}\n" for line in wrong) or "every licence is allowed\n")
            return 1 if wrong else 0
        case _:
            sys.stderr.write("usage: python -m tests.tools.supply_chain sbom FILE | licences\n")
            return 2


if __name__ == "__main__":
    sys.exit(main())
