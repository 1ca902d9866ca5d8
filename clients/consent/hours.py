"""When a site trains: a part of the day by its own clock."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from fedmri.errors import PrivacyError, require

FORM = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")


@dataclass(frozen=True)
class Hours:
    """A part of each day, by the machine's clock; one that ends before it begins spans midnight.

    Attributes:
        begin: First minute of it.
        end: First minute after it.
    """

    begin: dt.time
    end: dt.time

    @classmethod
    def of(cls, text: str) -> Hours | None:
        """Return the hours of a setting such as ``19:00-06:00``; None where it is empty.

        Raises:
            ConfigError: It is none (C01).
        """
        if not text:
            return None
        want = "two times of a day that differ, such as 19:00-06:00"
        found = FORM.fullmatch(text)
        numbers = [int(part) for part in found.groups()] if found else []
        is_day = bool(numbers) and max(numbers[::2]) < 24 and max(numbers[1::2]) < 60  # of a clock
        require(is_day and numbers[:2] != numbers[2:], "train_hours", text, want)
        begin_h, begin_min, end_h, end_min = numbers
        return cls(dt.time(begin_h, begin_min), dt.time(end_h, end_min))

    def __contains__(self, time: dt.time) -> bool:
        if self.begin < self.end:
            return self.begin <= time < self.end
        return time >= self.begin or time < self.end


def refuse_other_hours(text: str, now: dt.datetime) -> None:
    """Put an order off that comes outside of the site's hours.

    Args:
        text: The setting ``train_hours``; empty trains at any time.
        now: Time of the machine's own clock.

    Raises:
        PrivacyError: It does (P19); the server asks again.
    """
    hours = Hours.of(text)
    if hours is not None and now.time() not in hours:
        fix = "wait: the server asks again; or change train_hours in site.yaml"
        what, found = "order to train", f"one at {now:%H:%M}"
        raise PrivacyError("P19", what, found=found, want=f"one within {text}", fix=fix)
