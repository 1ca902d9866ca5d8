"""What a site keeps only if the server took its update.

The server's memory holds the sum of what sites keep. An update that was lost or refused is not in
it, so the site must go back to what it had before, or the sum would be wrong for ever. Each
answer carries a ticket; the server tells the tickets that it took last.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fedmri.round import Form, SiteRound, Update, Weights

TICKET, TICKETS, BEFORE = "ticket", "tickets", "before."


def last_taken(before: SiteRound, slot: str) -> Weights:
    """Return what the site kept in a slot after the last update of it that was taken."""
    own = before.memory.get(TICKET, {}).get(TICKET)
    taken = before.extra.get(TICKETS, {}).get(TICKETS, torch.empty(0, dtype=torch.int64))
    is_taken = own is not None and bool((taken == own).any())
    return before.memory.get(slot if is_taken else f"{BEFORE}{slot}", {})


def kept(before: SiteRound, slot: str, new: Weights) -> dict[str, Weights]:
    """Return the memory after a round that may or may not be taken."""
    old = last_taken(before, slot)
    return {slot: new, f"{BEFORE}{slot}": old, TICKET: ticket(before)}


def ticket(before: SiteRound) -> Weights:
    """Return the record that goes with an answer."""
    return {TICKET: torch.tensor(before.ticket, dtype=torch.int64)}


TICKET_FORM: Mapping[str, Form] = {TICKET: Form(torch.int64, ())}


def ticket_of(update: Update) -> torch.Tensor:
    """Return the ticket of an update that is taken."""
    return update.extra[TICKET][TICKET].clone()


def broadcast(tickets: Weights) -> Weights:
    """Return the record of taken tickets; it names no site."""
    values = sorted(int(value) for value in tickets.values())
    return {TICKETS: torch.tensor(values, dtype=torch.int64)}
