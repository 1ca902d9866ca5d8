"""DICOM from a real archive and back into it: Orthanc over TLS, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client.web import DICOMwebClient
from requests import Session

from fedmri.api.archive import DicomExchange, predict_dicom
from fedmri.archive.dicomweb import Archive, Wanted
from fedmri.archive.login import login_for
from fedmri.archive.results import Made
from fedmri.errors import DataError, NetworkError
from fedmri.trained.model import TrainedModel
from tests.archive.conftest import Lie, in_scan, oblique
from tests.archive.orthanc import ABSENT, PASSWORD, PLUGIN, PROGRAM, USER, Served, orthanc
from tests.trained.conftest import labels
from tests.trained.test_commands import Fedmri, fedmri  # noqa: F401  # a fixture
from tests.untrained import written

pytestmark = pytest.mark.skipif(PROGRAM is None or not PLUGIN.exists(), reason=ABSENT)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return an archive that runs."""
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[DICOMwebClient]:
    """Return a client that is none of ours."""
    with Session() as session:
        session.trust_env = False
        session.auth, session.verify = (USER, PASSWORD), str(served.authority)
        yield DICOMwebClient(served.url, session)


def stored(client: DICOMwebClient, folder: Path, lie: Lie | None = None) -> pydicom.Dataset:
    """Put a series into the archive; return a header of it."""
    files = sorted(oblique(folder, lie=lie).iterdir())
    client.store_instances([pydicom.dcmread(file) for file in files])
    return pydicom.dcmread(files[0])


def objects(client: DICOMwebClient, study: str) -> dict[str, list[pydicom.Dataset]]:
    """Return what the archive has of a study, by modality."""
    found: dict[str, list[pydicom.Dataset]] = {}
    for data in client.retrieve_study(study, media_types=(("application/dicom", "*"),)):
        found.setdefault(data.Modality, []).append(data)
    return found


def test_a_mask_comes_back_from_an_archive_as_it_was_made(
    served: Served, client: DICOMwebClient, tuned: TrainedModel, tmp_path: Path, fedmri: Fedmri  # noqa: F811
) -> None:  # fmt: skip
    """The command reads a study, stores its results, and the voxels are those of the NIfTI file."""
    header = stored(client, tmp_path / "A/p1")
    model = written(tuned, tmp_path / "model.safetensors")
    words = ["--from", served.url, "--to", served.url, "--out", tmp_path / "out"]
    words += ["--study", header.StudyInstanceUID, "--patient", header.PatientID]
    code, out, err = fedmri("predict", model, *words, "--login", served.login(tmp_path))
    assert code == 0, err
    assert "8 DICOM objects stored" in err
    assert PASSWORD not in out + err
    found = objects(client, header.StudyInstanceUID)
    assert {kind: len(each) for kind, each in found.items()} == {
        "MR": 6, "SEG": 1, "SR": 1, "OT": 6,
    }  # fmt: skip
    pydicom.dcmwrite(tmp_path / "back.dcm", found["SEG"][0])
    [mask] = (tmp_path / "out").rglob("*_dseg.nii.gz")
    image = labels(mask)
    back = in_scan(tmp_path / "back.dcm", image.shape, np.asarray(image.affine))
    assert np.array_equal(back, np.asarray(image.dataobj))
    assert 0 < back.mean() < 1
    assert {d.PatientID for each in found.values() for d in each} == {header.PatientID}
    assert header.PatientID not in " ".join(str(p) for p in (tmp_path / "out").rglob("*"))


def test_a_study_of_another_patient_is_not_read(
    served: Served, client: DICOMwebClient, tmp_path: Path
) -> None:
    """It is refused before a file of it is fetched."""
    header = stored(client, tmp_path / "A/p2")
    archive = Archive(login_for(served.url, [served.login(tmp_path)], {}))
    with closing(archive), pytest.raises(DataError, match=r"found another patient's.*\[D86\]"):
        archive.fetch(Wanted(header.StudyInstanceUID, (), "somebody"), tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


OTHERS = {
    "patient": ({"PatientID": "somebody"}, Lie(), "D86"),
    "frame of reference": ({}, Lie(frame="another"), "D87"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_results_of_another_patient_or_frame_are_not_stored(
    name: str, served: Served, client: DICOMwebClient, tuned: TrainedModel, tmp_path: Path
) -> None:  # fmt: skip
    """The archive has the study and the series of somebody else, or placed otherwise."""
    values, lie, code = OTHERS[name]
    folder = tmp_path / "A" / f"of {name}"
    header = stored(client, folder)

    def other(data: pydicom.FileDataset, _: int) -> None:
        for field, value in values.items():
            setattr(data, field, value)

    again = oblique(folder, lie=lie, then=other)
    exchange = DicomExchange(target=served.url, logins=(served.login(tmp_path),))
    with pytest.raises(DataError, match=rf"\[{code}\]"):
        predict_dicom(tuned, again, exchange=exchange)
    assert set(objects(client, header.StudyInstanceUID)) == {"MR"}


def test_an_archive_must_show_a_certificate_that_is_known(served: Served, tmp_path: Path) -> None:
    """Without the authority's file nothing is asked, and the password is not told."""
    login = served.login(tmp_path, ca="")
    archive = Archive(login_for(served.url, [login], {}))
    with (
        closing(archive),
        pytest.raises(NetworkError, match=r"certificate that cannot be verified.*\[N30\]") as no,
    ):
        archive.fetch(Wanted("1.2.3"), tmp_path)
    assert PASSWORD not in str(no.value)


WRONG = {
    "password": ({"password": "wrong"}, "1.2.3", "N30"),
    "study": ({}, "1.2.3", "N32"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_an_archive_refuses_or_lacks_is_one_error(
    name: str, served: Served, tmp_path: Path
) -> None:
    """A wrong password and an unknown study are told apart."""
    values, study, code = WRONG[name]
    archive = Archive(login_for(served.url, [served.login(tmp_path, **values)], {}))
    with closing(archive), pytest.raises(NetworkError, match=rf"\[{code}\]"):
        archive.fetch(Wanted(study), tmp_path)


def test_objects_that_an_archive_does_not_take_are_counted(
    served: Served, tuned: TrainedModel, tmp_path: Path
) -> None:
    """An object of another study than the one it is sent for is refused by the archive."""
    scan = oblique(tmp_path / "A/p9")
    made = predict_dicom(tuned, scan, exchange=DicomExchange(tmp_path / "dicom"))
    one = Made(made.files, "", "1.2.3.4", "1.2.3.5", "1.2.3.6")
    archive = Archive(login_for(served.url, [served.login(tmp_path)], {}))
    with closing(archive), pytest.raises(NetworkError, match=r"\[N3[03]\]"):
        archive.store([one])
