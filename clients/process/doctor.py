"""Everything that must be in order before a site can train, each line with its remedy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fedmri.agreement.consortium import installed_version
from fedmri.agreement.sealed import require_writable
from fedmri.clients.mailbox.looks import n_waiting
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.keys import public_half
from fedmri.clients.process.reach import DoctorFinding, examine_network
from fedmri.clients.process.standing import ask_standing, revoked
from fedmri.data.bids.data_set import modalities_in
from fedmri.data.read import read
from fedmri.errors import FedmriError, NetworkError, told

Step = Callable[[ClientHome], Iterator[DoctorFinding]]
GIGABYTE = 1e9
LEAST_FREE, LITTLE_FREE = 1 * GIGABYTE, 10 * GIGABYTE


def examine(home: ClientHome, mailbox: Path | None = None) -> list[DoctorFinding]:
    """Look at everything; what cannot even be looked at is a failure with its own remedy.

    Args:
        home: The site's folder.
        mailbox: Shared folder of a site that dials nobody: looked at instead of the network.

    Raises:
        UsageError: The folder is not a site's (U21).
    """
    if not home.settings_file.exists():
        _ = home.config
    way: dict[str, Step] = (
        {"network": _network} if mailbox is None else {"mailbox": partial(_mailbox, mailbox)}
    )
    steps: dict[str, Step] = {
        "enrolment": _enrolment,
        **way,
        "version": _version,
        "disk": _disk,
        "device": _device,
        "data": _data,
    }
    return [finding for name, step in steps.items() for finding in _guarded(name, step, home)]


def refuse_failed(findings: Sequence[DoctorFinding]) -> None:
    """Raise the NetworkError of a site that cannot work (N07)."""
    failed = [finding.name for finding in findings if finding.level == "fail"]
    if failed:
        fix = "follow the remedies of the lines that say fail"
        found = f"a failure of {', '.join(failed)}"
        raise NetworkError("N07", "doctor", found=found, want="no failure", fix=fix)


def _guarded(name: str, step: Step, home: ClientHome) -> Iterator[DoctorFinding]:
    try:
        yield from step(home)
    except FedmriError as error:
        text, _, fix = str(error).partition(" To fix: ")
        fix = fix.replace("data.source.", "data.").replace("train.device", "device")
        yield DoctorFinding(name, "fail", text, fix)
    except OSError as error:
        yield DoctorFinding(name, "fail", str(error), "let the user who runs the client read it")


def _enrolment(home: ClientHome) -> Iterator[DoctorFinding]:
    own = public_half(home.key)
    consortium = home.consortium
    if consortium.public_key != own:
        fix = f"send the coordinator {home.public_key} and join with the file that comes back"
        yield DoctorFinding("enrolment", "fail", "made for another key", fix)
        return
    found = f"site {consortium.site}, consortium {consortium.fingerprint}"
    yield DoctorFinding("enrolment", "ok", found)


def _network(home: ClientHome) -> Iterator[DoctorFinding]:
    if not home.consortium_file.exists():  # without it, the enrolment has failed already
        return
    found = list(examine_network(home.consortium))
    yield from found
    if all(finding.level != "fail" for finding in found):
        yield from _membership(home)


def _mailbox(mailbox: Path, home: ClientHome) -> Iterator[DoctorFinding]:
    if not mailbox.is_dir():
        fix = "mount it, or ask the coordinator which folder it is"
        yield DoctorFinding("mailbox", "fail", f"{mailbox} is no folder", fix)
        return
    try:
        require_writable(mailbox)
    except OSError as error:
        fix = "let the user who runs the client write there"
        yield DoctorFinding("mailbox", "fail", f"{mailbox} cannot be written: {told(error)}", fix)
        return
    found = f"{mailbox} can be written; orders that wait there: {n_waiting(home, mailbox)}"
    yield DoctorFinding("mailbox", "ok", found)


def _membership(home: ClientHome) -> Iterator[DoctorFinding]:
    """Ask the server how this site stands, which no certificate tells; an old one says nothing."""
    standing = ask_standing(home)
    if standing == "revoked":
        text, _, fix = str(revoked(home)).partition(" To fix: ")
        yield DoctorFinding("membership", "fail", text, fix)
    elif standing == "enrolled":
        yield DoctorFinding("membership", "ok", "the server knows this site's key")
    elif standing == "not known":
        fix = "ask the coordinator whether this site is enrolled"
        yield DoctorFinding("membership", "fail", "the server does not know this site's key", fix)


def _version(home: ClientHome) -> Iterator[DoctorFinding]:
    own = installed_version()
    server = home.consortium.version if home.consortium_file.exists() else own
    if own != server:
        found = f"fedmri {own} here, {server} at the server when this site was enrolled"
        fix = f"ask the coordinator which version runs now; install it with fedmri=={server}"
        yield DoctorFinding("version", "warn", found, fix)
        return
    yield DoctorFinding("version", "ok", f"fedmri {own}")


def _disk(home: ClientHome) -> Iterator[DoctorFinding]:
    free = shutil.disk_usage(home.folder).free
    found = f"{free / GIGABYTE:.1f} GB free for {home.folder}"
    fix = "free some space, or move the folder: prepared scans and models go there"
    if not os.access(home.folder, os.W_OK):
        fix = "give it to the user who runs the client"
        yield DoctorFinding("disk", "fail", f"{home.folder} cannot be written to", fix)
    elif free < LEAST_FREE:
        yield DoctorFinding("disk", "fail", found, fix)
    elif free < LITTLE_FREE:
        yield DoctorFinding("disk", "warn", found, fix)
    else:
        yield DoctorFinding("disk", "ok", found)


def _device(home: ClientHome) -> Iterator[DoctorFinding]:
    import torch

    from fedmri.training.computing.arithmetic import computes
    from fedmri.training.computing.device import pick_device

    device = pick_device(home.config.device or "auto")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        found = f"{name}, {free / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB free"
        yield DoctorFinding("device", "ok", found)
    elif home.config.device:
        yield DoctorFinding("device", "ok", f"{device}, as site.yaml wants")
    else:
        fix = "install a GPU driver and a build of PyTorch for it, or be patient"
        yield DoctorFinding("device", "warn", "no GPU is seen, training runs on the CPU", fix)
    is_low = computes(device, "bf16")
    does = "computes in bfloat16" if is_low else "computes plans for bfloat16 in float32"
    yield DoctorFinding("precision", "ok", f"{device} {does}")


def _data(home: ClientHome) -> Iterator[DoctorFinding]:
    source = home.config.data
    modalities = modalities_in(Path(source.path))
    if modalities:
        source = replace(source, modalities=modalities)
    scans = read(replace(source, site=source.site or "own")).scans
    files = [path for scan in scans for path in (*scan.images.values(), *scan.labels.values())]
    closed = [path for path in files if not os.access(path, os.R_OK)]
    n_subjects = len({scan.subject for scan in scans})
    found = f"{n_subjects} subjects, {len(scans)} scans"
    if closed:
        fix = f"let the user who runs the client read them, such as {closed[0]}"
        yield DoctorFinding(
            "data", "fail", f"{len(closed)} of {len(files)} files cannot be read", fix
        )
        return
    said = f"{found}, modalities {', '.join(modalities)}" if modalities else found
    yield DoctorFinding("data", "ok", f"{said} in {source.path}")
