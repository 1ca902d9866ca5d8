"""The bundle as a Process Run RO-Crate: what was done, with what, and which files came out."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

METADATA = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
SOFTWARE, ACTION, AUTHORS = "#fedmri", "#run", "#authors"


def crate(folder: Path, name: str, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a folder as JSON-LD.

    Args:
        folder: Of the bundle; all files in it are listed with size and SHA-256.
        name: Of the run.
        environment: The run's record of command, versions, start and duration.

    Source:
        Leo et al. 2024, doi:10.1371/journal.pone.0309210 (Process Run Crate 0.5).
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != METADATA]
    parts = [_file(path, folder) for path in files]
    data = [
        {
            "@id": f"#data-{number}",
            "@type": "Dataset",
            "name": f"Scans of {site}",
            "identifier": text,
        }
        for number, (site, text) in enumerate(
            dict(environment.get("data_fingerprints") or {}).items()
        )
    ]
    graph = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": {"@id": SPECIFICATION},
            "about": {"@id": "./"},
        },
        _root(name, environment, parts),
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        {"@id": "#license", "@type": "CreativeWork", "name": "To be chosen by the authors"},
        {"@id": AUTHORS, "@type": "Organization", "name": "To be named by the authors"},
        {
            "@id": SOFTWARE,
            "@type": "SoftwareApplication",
            "name": "fedmri",
            "softwareVersion": str(environment.get("fedmri", "")),
        },
        _action(environment, parts, data),
        *data,
        *parts,
    ]
    hashes = {"sha256": "https://schema.org/sha256"}  # younger than the context
    return {"@context": [f"{SPECIFICATION}/context", hashes], "@graph": graph}


def _root(name: str, environment: Mapping[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Federated training run {name}",
        "description": "Results, checklists, claims and model of a run; it holds no patient.",
        "datePublished": str(environment.get("started", ""))[:10],
        "license": {"@id": "#license"},
        "author": {"@id": AUTHORS},
        "publisher": {"@id": AUTHORS},
        "conformsTo": {"@id": PROFILE},
        "hasPart": [{"@id": part["@id"]} for part in parts],
        "mentions": {"@id": ACTION},
    }


def _action(
    environment: Mapping[str, Any], parts: list[dict[str, Any]], data: list[dict[str, Any]]
) -> dict[str, Any]:
    times = {}
    if text := str(environment.get("started", "")):
        started = datetime.fromisoformat(text).astimezone()  # a run notes the time of its machine
        ended = started + timedelta(seconds=round(float(environment.get("seconds") or 0)))
        times = {"startTime": started.isoformat(), "endTime": ended.isoformat()}
    return {
        "@id": ACTION,
        "@type": "CreateAction",
        "name": "Training, testing and reporting",
        "description": str(environment.get("command", "")),
        "agent": {"@id": AUTHORS},
        "instrument": {"@id": SOFTWARE},
        "object": [{"@id": one["@id"]} for one in data],
        "result": [{"@id": part["@id"]} for part in parts],
        "actionStatus": "http://schema.org/CompletedActionStatus",
        **times,
    }


def _file(path: Path, folder: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "@id": path.relative_to(folder).as_posix(),
        "@type": "File",
        "name": path.name,
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
        "encodingFormat": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
    }
