"""Validate a crate without a network: run by a Python that has roc-validator.

The context of RO-Crate 1.1 is the one page that the validator asks for. Its terms that a bundle of
fedmri uses are given here as that page has them; it has no ``sha256``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import requests

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
OF_SCHEMA = (  # noqa: SIM905  # a list of words
    "CreateAction CreativeWork Dataset Organization SoftwareApplication about actionStatus agent "
    "author contentSize datePublished description encodingFormat endTime hasPart identifier "
    "instrument license mentions name object publisher result softwareVersion startTime version"
).split()
TERMS = {
    **{name: f"http://schema.org/{name}" for name in OF_SCHEMA},
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
}


def answer(self: Any, method: str, url: str, **_: Any) -> requests.Response:
    """Return the context, and refuse all other addresses."""
    if url != CONTEXT:
        raise requests.ConnectionError(f"no network for {url}")
    response = requests.Response()
    response.status_code, response.url = 200, url
    response.headers["Content-Type"] = "application/ld+json"
    response._content = json.dumps({"@context": TERMS}).encode()
    return response


def main() -> None:
    """Print what is required or recommended and not met, a line each."""
    requests.Session.request = answer  # type: ignore[method-assign,assignment]
    from rocrate_validator import models, services  # type: ignore[import-not-found]

    settings = services.ValidationSettings(
        rocrate_uri=sys.argv[1],
        profile_identifier="process-run-crate-0.5",
        requirement_severity=models.Severity.RECOMMENDED,
    )
    for issue in services.validate(settings).get_issues():
        sys.stdout.write(f"{issue.severity.name} {issue.check.identifier} {issue.message}\n")


if __name__ == "__main__":
    main()
