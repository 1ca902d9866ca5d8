"""An archive over DICOMweb: series are found and read (QIDO, WADO), results are stored (STOW)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset

from fedmri.archive.login import Login, origin_of
from fedmri.archive.results import Made
from fedmri.errors import DataError, NetworkError

SCANNER = "MR"
AS_STORED = (("application/dicom", "*"),)
TIMEOUT_S = 60.0
Found = TypeVar("Found")


@dataclass(frozen=True)
class Wanted:
    """What is read from an archive.

    Attributes:
        study: UID of the study.
        series: UIDs of series; empty takes all of MRI.
        patient: Number that the study's patient must have; ``""`` takes any.
    """

    study: str
    series: tuple[str, ...] = ()
    patient: str = ""


class Archive:
    """An archive that is spoken to as its login says; certificates are verified.

    Args:
        login: Address, and how it knows us.
        timeout_s: Longest wait for an answer.

    Raises:
        NetworkError: The address cannot be used (N30).
    """

    def __init__(self, login: Login, timeout_s: float = TIMEOUT_S) -> None:
        scheme, host, port = origin_of(login.url)
        self.name = f"{scheme}://{host}:{port}"
        session = requests.Session()
        session.trust_env = False  # no proxy and no .netrc learns what a file alone may say
        session.max_redirects = 0  # a login is for this address and no other
        session.verify = login.ca or True
        if login.user:
            session.auth = (login.user, login.password)
        if login.token:
            session.headers["Authorization"] = f"Bearer {login.token}"
        self._client = DICOMwebClient(login.url.rstrip("/"), session, timeout=timeout_s)
        self._client.set_http_retry_params(retry=False)
        self._session = session

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def fetch(self, wanted: Wanted, folder: Path) -> int:
        """Write the files of a study into a folder for each series; return how many series.

        Raises:
            NetworkError: The archive does not answer (N30), or has no such series (N32).
            DataError: The study is another patient's (D86).
        """
        self._refuse_other_patient(wanted.study, wanted.patient, is_needed=True)
        uids = self._series(wanted)
        for number, uid in enumerate(uids, start=1):
            place = folder / f"{number:03}"
            place.mkdir(parents=True)
            self._ask(self._write, wanted, uid, place)
        return len(uids)

    def store(self, made: Sequence[Made]) -> int:
        """Store the results of scans; return how many objects. All are checked before the first.

        Raises:
            NetworkError: The archive does not answer (N30), or does not take all objects (N33).
            DataError: It has the study of another patient (D86), or the series in another frame of
                reference (D87).
        """
        for one in made:
            self._refuse_other_patient(one.study, one.patient, is_needed=False)
            self._refuse_other_frame(one)
        n_stored = 0
        for one in made:
            objects = [pydicom.dcmread(path) for path in one.files]
            answer = self._ask(self._client.store_instances, objects, one.study)
            self._refuse_failed(answer, len(objects))
            n_stored += len(objects)
        return n_stored

    def _series(self, wanted: Wanted) -> list[str]:
        query = {"study_instance_uid": wanted.study}
        rows = self._ask(self._client.search_for_series, **query)
        kinds = {_value(row, "SeriesInstanceUID"): _value(row, "Modality") for row in rows}
        known = [uid for uid, kind in kinds.items() if kind == SCANNER]
        uids = list(wanted.series) or sorted(known)
        lost = [uid for uid in uids if uid not in kinds]
        if lost or not uids:
            found = f"{len(lost)} that are not there" if lost else f"none of {SCANNER}"
            raise self._absent(f"series of the study, {found}")
        return uids

    def _write(self, wanted: Wanted, uid: str, place: Path) -> None:
        """Write a series as it comes; an object of another study or series is not taken."""
        answer = self._client.iter_series(wanted.study, uid, media_types=AS_STORED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every oddity of every vendor
            for number, data in enumerate(answer, start=1):
                if (data.get("StudyInstanceUID"), data.get("SeriesInstanceUID")) != (
                    *(wanted.study, uid),
                ):
                    raise self._refused("an object of another series")
                pydicom.dcmwrite(place / f"{number:05}.dcm", data)

    def _refuse_other_patient(self, study: str, patient: str, *, is_needed: bool) -> None:
        filters = {"StudyInstanceUID": study}
        rows = self._ask(
            self._client.search_for_studies, search_filters=filters, fields=["PatientID"]
        )
        rows = [row for row in rows if _value(row, "StudyInstanceUID") == study]
        if not rows and is_needed:
            raise self._absent("study")
        found = {_value(row, "PatientID") for row in rows}
        if found and patient and found != {patient}:
            what, want = f"study at {self.name}", "the patient that was asked for"
            fix = "check the study and the patient; nothing was read or stored"
            raise DataError("D86", what, found="another patient's", want=want, fix=fix)

    def _refuse_other_frame(self, one: Made) -> None:
        """Refuse results of a series that the archive has in another frame of reference."""
        rows = self._ask(
            self._client.search_for_instances,
            study_instance_uid=one.study,
            search_filters={"SeriesInstanceUID": one.series},
            limit=1,
        )
        for row in rows:
            if _value(row, "SeriesInstanceUID") != one.series:
                continue
            uids = (one.study, one.series, _value(row, "SOPInstanceUID"))
            header = self._ask(self._client.retrieve_instance_metadata, *uids)
            if _value(header, "FrameOfReferenceUID") not in ("", one.frame):
                what = f"series at {self.name}"
                found, want = "another frame of reference", "that of the results"
                fix = "read the series from this archive and predict again; nothing was stored"
                raise DataError("D87", what, found=found, want=want, fix=fix)

    def _refuse_failed(self, answer: Dataset, n_objects: int) -> None:
        failed = answer.get("FailedSOPSequence") or []
        n_taken = len(answer.get("ReferencedSOPSequence") or [])
        if failed or n_taken != n_objects:
            reasons = sorted({f"{int(item.get('FailureReason', 0)):#06x}" for item in failed})
            found = f"{n_taken} of {n_objects} objects, reasons {', '.join(reasons) or 'unknown'}"
            what, want = f"storing at {self.name}", "all of them"
            fix = "ask the archive's administrator; DICOM PS3.18 explains the reasons"
            raise NetworkError("N33", what, found=found, want=want, fix=fix)

    def _ask(self, call: Callable[..., Found], *words: Any, **named: Any) -> Found:
        """Call an archive; whatever goes wrong is one error without an address's query."""
        with self._explained():
            return call(*words, **named)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except requests.exceptions.SSLError as error:
            found = "a certificate that cannot be verified"
            fix = "name the file of the archive's own authority as `ca` of its login"
            raise self._refused(found, fix) from error
        except requests.exceptions.HTTPError as error:
            status = error.response.status_code if error.response is not None else "unknown"
            raise self._refused(f"status {status}") from error
        except requests.exceptions.Timeout as error:
            raise self._refused("no answer in time") from error
        except requests.exceptions.ConnectionError as error:
            raise self._refused("no connection") from error
        except (requests.exceptions.RequestException, ValueError) as error:
            raise self._refused(f"no DICOMweb ({type(error).__name__})") from error

    def _refused(self, found: str, fix: str = "") -> NetworkError:
        fix = fix or "check address and login, and that the archive's DICOMweb is on"
        what, want = f"archive {self.name}", "an answer as DICOMweb has it"
        return NetworkError("N30", what, found=found, want=want, fix=fix)

    def _absent(self, found: str) -> NetworkError:
        what, want = f"archive {self.name}", "the study and its series"
        fix = "check the UIDs, and whether the login may see the study"
        return NetworkError("N32", what, found=f"no such {found}", want=want, fix=fix)


def _value(row: Any, name: str) -> str:
    """Return a field of an answer in the JSON model of DICOM, or ``""``."""
    tag = pydicom.datadict.tag_for_keyword(name)
    values = row.get(f"{tag:08X}", {}).get("Value") or [""]
    return str(values[0])
