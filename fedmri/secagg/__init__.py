"""Secure aggregation: the server learns a sum over sites and no site's share of it.

``SecureSum`` is what all parties agree on; ``SiteHalf`` and ``ServerHalf`` are its two halves. Both
are pure: a step takes the state and what arrived, and returns the next state and what is sent.

| step | site sends | server answers with | site keeps |
| --- | --- | --- | --- |
| ``advertise`` | ``Advert``: keys, a commitment, a signature | ``Roster``: all adverts | secrets |
| ``share`` | ``Sealed``: a box for each other site | ``Inbox``: those for this site | and roster |
| ``mask`` | ``Masked``: values under masks | ``Survivors``: who is in the sum | others' shares |
| ``reveal`` | ``Reveal``: a share of each site | (the sum is done) | what it revealed |

The server keeps roster and ``Running``: one total and two sets of names. Every message turns into
named arrays and back (``to_arrays``, ``from_arrays``), of shapes that depend on the ``SecureSum``
alone. A site that loses its state counts as one that dropped out. The sums do not depend on keys or
masks: the same values give the same bits again.

Source:
    Bonawitz et al. 2017, Practical secure aggregation for privacy-preserving machine learning,
    doi:10.1145/3133956.3133982: figure 4 without its consistency check, which costs a fifth step;
    docs/privacy.md says what a server that lies can gain from that.
"""
