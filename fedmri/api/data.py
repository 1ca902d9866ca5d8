"""What is wrong with a data set, as tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fedmri.config import load, quoted
from fedmri.data.checks.check import enforce
from fedmri.data.checks.manifest import findings_table, used_by_site
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig

if TYPE_CHECKING:
    import pandas as pd

    from fedmri.data.target import DataTarget


@dataclass(frozen=True)
class DataCheck:
    """What was found when every scan of a data set was opened.

    Attributes:
        scans: Scans that may be used, and all findings.
        limits: What is refused.
        target: What would be predicted; None where labels were not checked.
        modalities: Images that were looked at.
    """

    scans: ScanTable
    limits: CheckConfig
    target: DataTarget | None = None
    modalities: tuple[str, ...] = ()

    def used(self) -> pd.DataFrame:
        """Return scans by site. Columns: ``site``, ``used``, ``found``."""
        import pandas as pd

        rows = [(site, *counts) for site, counts in used_by_site(self.scans).items()]
        return pd.DataFrame(rows, columns=["site", "used", "found"])

    def findings(self) -> pd.DataFrame:
        """Return findings by code and site: how many, how many left out, what, and an example."""
        import pandas as pd

        return pd.DataFrame([asdict(count) for count in findings_table(self.scans)])

    def draw(self, folder: str | os.PathLike[str]) -> tuple[Path, int]:
        """Draw each scan whose head is in doubt. The pictures show patients and stay here.

        Returns:
            The page of pictures, and the number of scans on it.

        Raises:
            UsageError: The folder cannot be written to (U01).
        """
        from fedmri.api.pages.head_page import write_head_pages

        return write_head_pages(Path(folder), self.scans, self.target, self.modalities)

    def enforce(self) -> None:
        """Refuse the data set as training would.

        Raises:
            DataError: Copies, lost scans or a missing class are beyond the limits.
        """
        enforce(self.scans, self.limits)


def check_data(
    data: str | os.PathLike[str],
    target: DataTarget | None = None,
    settings: Sequence[str] = (),
    *,
    config: Path | None = None,
    manifest: str | os.PathLike[str] | None = None,
) -> DataCheck:
    """Open every scan of a data set and say what is wrong with it; nothing is changed.

    Args:
        data: Folder: BIDS, ``site/class/*.png`` or DICOM.
        target: What would be predicted. None takes the target of the settings. Without one, no
            labels are checked.
        settings: Further settings, such as ``data.source.site_column=hospital``.
        config: YAML file of settings.
        manifest: File to write, which says who is left out and why.

    Raises:
        DataError: There is nothing to check (D01, D04).
    """
    from fedmri.simulation.preflight import preflight, with_all_modalities

    path = quoted(str(Path(data).expanduser().absolute()))
    plan = load([f"data.source.path={path}", *settings], config).plan
    source, chosen = plan.data.source, target
    if not (config or _are_set(settings, "data.source.modalities")):
        source = with_all_modalities(source)
    if target is None and (config or _are_set(settings, "target.")):
        chosen = plan.target
    with TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.tsv" if manifest is None else Path(manifest)
        found = preflight(replace(plan.data, source=source), chosen, file)
    return DataCheck(found, plan.data.check, chosen, source.modalities)


def _are_set(settings: Sequence[str], key: str) -> bool:
    return any(text.startswith((key, "experiment=")) for text in settings)
