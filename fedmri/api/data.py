"""What is wrong with a data set, as tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fedmri.config import load
from fedmri.data.check import enforce
from fedmri.data.manifest import findings_table, used_by_site
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig

if TYPE_CHECKING:
    import pandas as pd

    from fedmri.round import Target


@dataclass(frozen=True)
class DataCheck:
    """What was found when every scan of a data set was opened.

    Attributes:
        scans: Scans that may be used, and all findings.
        limits: What is refused.
    """

    scans: ScanTable
    limits: CheckConfig

    def used(self) -> pd.DataFrame:
        """Return scans by site. Columns: ``site``, ``used``, ``found``."""
        import pandas as pd

        rows = [(site, *counts) for site, counts in used_by_site(self.scans).items()]
        return pd.DataFrame(rows, columns=["site", "used", "found"])

    def findings(self) -> pd.DataFrame:
        """Return findings by code and site: how many, how many left out, what, and an example."""
        import pandas as pd

        return pd.DataFrame([asdict(count) for count in findings_table(self.scans)])

    def enforce(self) -> None:
        """Refuse the data set as training would.

        Raises:
            DataError: Copies, lost scans or a missing class are beyond the limits.
        """
        enforce(self.scans, self.limits)


def check_data(
    data: str | os.PathLike[str], target: Target | None = None, settings: Sequence[str] = ()
) -> DataCheck:
    """Open every scan of a data set and say what is wrong with it; nothing is changed.

    Args:
        data: Folder: BIDS, ``site/class/*.png`` or DICOM.
        target: What would be predicted; None checks no labels, and every modality that is there.
        settings: Further settings, such as ``data.source.site_column=hospital``.

    Raises:
        DataError: There is nothing to check (D01, D04).
    """
    from fedmri.simulation.preflight import preflight, with_all_modalities

    path = Path(data).expanduser().absolute()
    config = load(settings).plan.data
    source = replace(config.source, path=str(path))
    if not any(text.startswith("data.source.modalities") for text in settings):
        source = with_all_modalities(source)
    with TemporaryDirectory() as folder:
        found = preflight(replace(config, source=source), target, Path(folder) / "manifest.tsv")
    return DataCheck(found, config.check)
