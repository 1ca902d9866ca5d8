"""Every exception of fedmri, its code and its exit status.

FedmriError
├── UsageError     2  a command was called in a way that it cannot carry out
├── DataError      3  a scan, table or data set cannot be trained on
├── ConfigError    4  a setting is wrong, or two settings contradict each other
├── PrivacyError   5  going on would break a privacy promise
├── NetworkError   6  another party cannot be reached or is not who it claims to be
├── RoundError     7  a round of training cannot be completed
└── HarmonizeError 3  sites cannot be harmonized, or not in this way

A message says what, what was found, what was wanted and how to fix it. ``str()`` may name paths and
subjects and stays at the site; ``public`` carries the code alone and may travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from pydantic import ValidationError

CODES: dict[str, str] = {
    "U01": "the command cannot be carried out as it was called",
    "U02": "the run folder cannot be resumed",
    "U10": "a file of the run folder is missing",
    "U11": "a file of the run folder is broken",
    "U12": "the run folder holds no test results",
    "U13": "the test results of a run contradict each other",
    "U14": "the runs of a model share no test patient",
    "U20": "the folder to be made is there already",
    "U21": "the folder is not one of a server or a site",
    "U22": "a key cannot be enrolled",
    "U23": "a name of a site cannot be used",
    "U24": "the registry of sites is broken",
    "U30": "the site's settings name no data",
    "U31": "there is no such plan at the site",
    "U32": "there is no such patient at the site",
    "U33": "there is no such run at the site",
    "U41": "a file of a run on the server is broken",
    "U42": "a run has not come so far",
    "U43": "the folder to copy to is not empty",
    "U44": "a model is not the one that its run recorded",
    "U45": "the web page's address is in use or not allowed",
    "U50": "a run cannot go on",
    "U51": "the name of a run cannot be used",
    "U52": "there is no such run",
    "U53": "a run cannot be ended",
    "U54": "a site is not enrolled",
    "U70": "a model's file cannot be used",
    "U71": "a model's file is of an older version",
    "U72": "a model lacks what each site keeps",
    "U73": "a model needs the other scans of a site",
    "U74": "no patient is there to be scored",
    "U75": "an exported model does not do what the model does",
    "U76": "a model cannot be exported so",
    "U77": "a model answers no question",
    "U80": "arrays of an evaluation do not fit each other",
    "U81": "a file of claims cannot be read",
    "U85": "models of an ensemble do not go together",
    "U86": "a model reads more than images",
    "U87": "summaries of explanations do not go together",
    "D01": "no usable scan is left",
    "D02": "a site lost more scans than allowed",
    "D03": "copies would put one patient or image on two sides",
    "D04": "the data set is not there or its layout is not known",
    "D05": "a subject table cannot be used",
    "D06": "the site of a scan is not known",
    "D07": "a file cannot be read",
    "D08": "an image has the wrong dimensions or kind of voxel",
    "D09": "an image holds values that are not finite",
    "D10": "an image is constant or empty",
    "D11": "a header claims what the file cannot hold",
    "D12": "an affine cannot be used",
    "D13": "spacing or orientation is far from the site's others",
    "D14": "a mask does not fit its image",
    "D15": "a label holds values that are not declared",
    "D16": "the target of a scan is missing or not declared",
    "D17": "a subject is in two sites",
    "D18": "rows of a subject table repeat or contradict each other",
    "D19": "a file is a byte for byte copy",
    "D20": "an image is nearly a copy",
    "D21": "copies of an image have different targets",
    "D22": "an image looks like CT",
    "D23": "a class is absent at a site",
    "D24": "a modality is missing",
    "D25": "several files fit one modality",
    "D26": "patients are not known",
    "D27": "a table names a file outside its folder",
    "D28": "table and files do not agree",
    "D29": "a file or folder was passed over",
    "D30": "a name cannot be used",
    "D31": "left out by hand",
    "D32": "a DICOM series is not one regular volume",
    "D33": "a site is empty",
    "D34": "a target changes between a patient's visits",
    "D40": "a patient is on two sides of the split",
    "D41": "an image is on two sides of the split",
    "D42": "no slice of a volume is left",
    "D43": "a prepared site cannot be used",
    "D44": "a cached array cannot be used",
    "D45": "a scan cannot be prepared",
    "D46": "a label lies outside the head",
    "D47": "the head's share of an image is implausible",
    "D48": "a label's intensities are clipped",
    "D49": "a label's intensities are erased",
    "D50": "preparation loses part of a label",
    "D55": "a label fits no image, or several",
    "D56": "two modalities are one image",
    "D57": "a header does not say for sure where voxels are",
    "D58": "a file is only a pointer to its content",
    "D59": "a value stands for a missing one or cannot be true",
    "D60": "a DICOM patient number and the folders disagree",
    "D61": "no DICOM series, or more than one, fits a modality",
    "D62": "sites share names of patients",
    "D63": "a DICOM file is of a kind that is not read",
    "D64": "a site lost all of its scans",
    "D65": "a name to leave out fits patients of several sites",
    "D66": "compressed pixels have no decoder",
    "D67": "a site lost many scans by choice",
    "D68": "a slanted stack of slices was straightened",
    "D69": "a picture looks inverted",
    "D70": "the folder for the embedded data set is not empty",
    "D71": "two names may be one site",
    "D72": "a site was written in several ways",
    "D73": "an image is in a format that is not read",
    "D74": "padding without a value was filled",
    "D75": "values of one row count for several sessions",
    "D76": "patients withdrew their consent",
    "D77": "a target does not vary at a site",
    "D78": "a finding is not known of all patients",
    "D79": "a covariate is not known of all patients",
    "D80": "voxels are unlike those of training",
    "D81": "a field of view is unlike that of training",
    "D82": "intensities are unlike those of training",
    "D83": "scans were left out of the predictions",
    "D84": "an input is no scan that the model reads",
    "D85": "results of an input cannot be written as DICOM",
    "D86": "a DICOM series or study is of another patient",
    "D87": "a DICOM series has no single frame of reference",
    "D88": "an upload is too large",
    "D89": "a prediction took too long",
    "D90": "a visit has no time",
    "C01": "a setting has a value that it cannot take",
    "C02": "a setting is not known",
    "C03": "two settings contradict each other",
    "C04": "the configuration file cannot be read",
    "C05": "an optional package is missing",
    "C10": "the data set does not have as many sites",
    "C11": "scans cannot be divided as asked",
    "C12": "names of subjects were grouped by a pattern",
    "C13": "names of subjects look like visits of one patient",
    "C14": "one possible patient lies on both sides of a split",
    "C15": "an arm would be tested on patients that it knows",
    "C20": "a model cannot do the task",
    "C21": "images do not fit the model",
    "C22": "a loss does not fit the task",
    "C23": "a device is not there",
    "C24": "weights to start from are not there or do not fit",
    "C30": "an update cannot travel in so few bits",
    "C31": "filters do not go with a strategy or transport",
    "C40": "a part cannot be loaded",
    "C41": "a part comes from another distribution than the plan names",
    "P20": "the server shipped code",
    "P21": "an order holds undeclared parts",
    "N01": "a signed plan cannot be read",
    "N02": "a plan is not signed by the coordinator",
    "N03": "a plan was signed with another version",
    "N04": "the enrolment cannot be used",
    "N05": "the coordinator's key cannot be used",
    "N06": "the site's key cannot be used",
    "N07": "the doctor found a problem that stops the client",
    "N20": "the server's port cannot be used",
    "N21": "a client runs in this folder already",
    "N30": "an archive does not answer as DICOMweb does",
    "N31": "the login of an archive cannot be used",
    "N32": "an archive has no such study or series",
    "N33": "an archive does not take all results",
    "N40": "a letter of the mailbox cannot be opened",
    "N41": "a letter of the mailbox is not the one that is due",
    "P01": "something that is not declared was about to leave",
    "P02": "something was about to leave in another form than declared",
    "P03": "too few patients are behind an update",
    "P05": "the egress ledger was changed",
    "P06": "the egress ledger was cut",
    "P07": "the egress ledger cannot be written",
    "P10": "a plan goes beyond the limits of the site",
    "P11": "a plan is not approved",
    "P12": "the coordinator has revoked the site",
    "P13": "another model was to be scored for the same round",
    "P14": "a site has reached its limit of scorings",
    "P15": "a plan was approved for another run",
    "P16": "scores without noise would break a cap on epsilon",
    "P17": "nobody can tell who withdrew their consent",
    "P18": "the site refuses the run",
    "P19": "the site trains at other hours",
    "P30": "no noise is enough for an epsilon",
    "P31": "a round would exceed the site's privacy cap",
    "P32": "a setting breaks differential privacy",
    "P33": "batch norm mixes patients",
    "P50": "a secure sum has too few sites",
    "P51": "too few sites are left for a secure sum",
    "P52": "a key of a secure sum is not its site's",
    "P53": "a share of a secure sum was changed",
    "P54": "an order would break the secrecy of a secure sum",
    "P55": "a value does not fit into a secure sum",
    "P56": "a message of a secure sum cannot be read",
    "P57": "a setting needs values that secure aggregation hides",
    "P58": "shares of a secure sum give another secret",
    "P59": "values that the plan hides would leave in clear",
    "P60": "a change of a model cannot be filtered",
    "P61": "leakage cannot be measured",
    "P63": "an update is larger than the site allows",
    "P64": "an update leaks more than the site allows",
    "P66": "noise for a hospital would drown what it shares",
    "P67": "noise for a hospital does not cover what it sends",
    "R01": "too few sites answered",
    "R02": "no site trained on any example",
    "R03": "an update does not fit the model",
    "R04": "an update holds a value that is not finite",
    "R05": "a site failed",
    "R06": "a checkpoint cannot be used",
    "R07": "updates arrived out of order",
    "R08": "an arm of a comparison failed",
    "R09": "a robust rule has too few sites",
    "R10": "a site has no layers of its own that the model needs",
    "R11": "an order asks for sums that the plan does not have",
    "R12": "a site lacks what no round brings of a first model",
    "R20": "no step of a round had a finite loss",
    "R21": "the memory of a device is exhausted",
    "R22": "slices cannot be put back together",
    "R30": "an encoded update cannot be decoded",
    "R31": "a value is too large for the type that it travels in",
    "R40": "too few sites are online",
    "R41": "an update is far too large",
    "R42": "a site claims more patients or examples than it declared",
    "R43": "a run did not come to its end",
    "R44": "answers cannot wait on the server's disk",
    "R45": "an update is late and joins a later round",
    "R46": "a replayed run ends with other weights",
    "H01": "sums of sites do not fit each other",
    "H02": "a site has too few rows",
    "H03": "the effect of a covariate cannot be told from that of the sites",
    "H04": "rows miss a kept covariate",
    "H05": "a level of a covariate is not known",
    "H06": "the reference site does not take part",
    "H07": "the target is a kept covariate",
    "H08": "covariates are nearly confounded with site",
    "H09": "features are left as they were",
    "H10": "a site was harmonized in a simpler way",
    "H11": "a table does not fit",
    "H12": "there are too few sites",
    "H13": "the sites' names cannot be found",
    "H15": "a site was not in the fit",
    "H20": "no image to fit landmarks to",
    "H21": "images cannot be harmonized so",
    "H22": "embeddings of a segmentation are not harmonized",
    "H23": "sums over embeddings would leave without noise",
    "H24": "mixed examples have no class",
    "H25": "a plan for tables trains nothing",
    "H26": "the site names no table of features",
    "H27": "no parameters of a fitted ComBat",
    "H28": "the file is no table of text",
    "H29": "a table was read with a doubt",
    "H30": "it is unclear what a column is",
    "H31": "an identifier or a date among the features",
    "H32": "numbers were taken as missing values",
    "H33": "it is unclear how numbers are written",
    "H34": "features were left as they were at a site",
    "H35": "values that ComBat does not fit",
    "H36": "the target is confounded with the site",
    "H37": "two sites' names look alike",
    "H38": "rows took no part in CovBat",
    "H39": "smooth covariates or CovBat are not possible here",
    "H40": "nobody can tell whose the rows of a table are",
}


class FedmriError(Exception):
    """Something that its reader can put right; a bug is never one of these."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "fedmri"
    beside: tuple[FedmriError, ...] = ()
    """What else is wrong, where all of it was looked at and this is the first."""

    def __init__(self, code: str, what: str, *, found: str, want: str, fix: str) -> None:
        super().__init__(f"{what}: found {found}, want {want}. To fix: {fix}. [{code}]")
        self.code, self.what = code, what
        self.public = f"{self.kind} error {code}"


class UsageError(FedmriError):
    """A command was called in a way that it cannot carry out."""

    exit_code = 2
    kind = "usage"


class DataError(FedmriError):
    """A scan, table or data set cannot be trained on."""

    exit_code = 3
    kind = "data"


class ConfigError(FedmriError):
    """A setting is wrong, or two settings contradict each other."""

    exit_code = 4
    kind = "config"


class PrivacyError(FedmriError):
    """Going on would break a privacy promise."""

    exit_code = 5
    kind = "privacy"


class NetworkError(FedmriError):
    """Another party cannot be reached or is not who it claims to be."""

    exit_code = 6
    kind = "network"


class RoundError(FedmriError):
    """A round of training cannot be completed."""

    exit_code = 7
    kind = "round"


class HarmonizeError(FedmriError):
    """Sites cannot be harmonized, or not in this way."""

    exit_code = 3  # as DataError: it is their data that do not allow it
    kind = "harmonization"


def raise_all(errors: Iterable[FedmriError]) -> None:
    """Raise the first of some errors, with the others beside it; nothing where there is none."""
    found = [*errors]
    if found:
        found[0].beside = tuple(found[1:])
        raise found[0]


def require(is_met: bool, key: str, value: object, want: str) -> None:  # noqa: FBT001  # reads as a sentence
    """Raise the ConfigError of a setting that has a value it cannot take."""
    if not is_met:
        fix = f"change {key}"
        raise ConfigError("C01", f"setting {key}", found=repr(value), want=want, fix=fix)


LONGEST = 300
"""Characters of a library's message that are shown; some go on for pages."""


def told(error: Exception) -> str:
    """Return what an exception of a library says, in one line and without names of its code."""
    if isinstance(error, UnicodeError):
        return "bytes that are not text in UTF-8"
    if isinstance(error, OSError) and error.strerror:
        file = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror[0].lower()}{error.strerror[1:]}{file}"
    if isinstance(error, KeyError):
        return f"no {error} in it"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        if not place and first["type"] != "json_invalid":  # a class of ours is no word
            return f"a {type(first['input']).__name__}"
        return f"{first['msg']}{f' at {place}' if place else ''}"[:LONGEST]
    text = " ".join(str(error).split())
    return text[:LONGEST] or type(error).__name__


def explained(codes: Mapping[str, str]) -> str:
    """Return sites with the codes that keep them out, for a reader without the list of codes."""
    return ", ".join(
        f"{site} ({code}: {CODES[code]})" if code in CODES else f"{site} ({code})"
        for site, code in sorted(codes.items())
    )
