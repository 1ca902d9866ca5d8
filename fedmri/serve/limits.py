"""What one request may cost."""

from __future__ import annotations

from dataclasses import dataclass

from fedmri.errors import require

MEGABYTE = 10**6


@dataclass(frozen=True)
class Limits:
    """Bounds of each request.

    Attributes:
        upload_mb: Megabytes of an upload; of a zip file also what it unpacks to, times four.
        time_s: Seconds that a prediction may take.
        n_waiting: Requests that may wait for the one that is predicted.
    """

    upload_mb: int = 500
    time_s: float = 300.0
    n_waiting: int = 4

    def __post_init__(self) -> None:
        require(self.upload_mb > 0, "--upload-mb", self.upload_mb, "a positive number")
        require(self.time_s > 0, "--time-s", self.time_s, "a positive number")

    @property
    def n_bytes(self) -> int:
        """Bytes of an upload."""
        return self.upload_mb * MEGABYTE

    @property
    def n_unpacked_bytes(self) -> int:
        """Bytes that a zip file may unpack to."""
        return 4 * self.n_bytes
