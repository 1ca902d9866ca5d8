"""Bad inputs, built on the fly: what is spoilt in a good data set, and the code it must give."""

from __future__ import annotations

from tests.data.corpus_bids import BIDS_CASES
from tests.data.corpus_pictures import PICTURE_CASES

CASES = [*BIDS_CASES, *PICTURE_CASES]
