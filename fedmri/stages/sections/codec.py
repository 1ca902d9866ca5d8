"""An update as it travels: whole or as its difference, in fewer bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import ConfigError
from fedmri.round import Form, Update, Weights
from fedmri.stages.stage import AtSite, Leaving, Place, Stage

if TYPE_CHECKING:
    import torch

    from fedmri.plan import TransportConfig

NAME = "codec"


@dataclass(frozen=True)
class Codec(Stage):
    """The transport of a plan; see ``fedmri.updates.codec``."""

    config: TransportConfig

    place: ClassVar[Place] = Place.UPDATES

    def outgoing(self, at: AtSite, leaving: Leaving) -> Leaving:
        """Encode what leaves; what rounding leaves out stays for the next round."""
        from fedmri.updates.codec import encode

        sent = encode(leaving.arrays, leaving.received, self.config, at.kept)
        return replace(leaving, arrays=sent.arrays).keeping(NAME, sent.residual)

    def forms(
        self, received: Mapping[str, torch.Tensor], forms: Mapping[str, Form]
    ) -> Mapping[str, Form]:
        """Return the encoded entries, and what other stages add as it is.

        Raises:
            ConfigError: A stage changes an entry that is to be encoded (C30).
        """
        from fedmri.updates.codec import PLAIN, declared

        if self.config == PLAIN:
            return forms
        for name, value in received.items():
            if forms.get(name) != Form(value.dtype, tuple(value.shape)):
                fix = "leave the transport at its defaults, or leave out the stage"
                found, want = f"a stage that changes the form of {name}", "the entries as they came"
                raise ConfigError("C30", "setting transport", found=found, want=want, fix=fix)
        added = {name: form for name, form in forms.items() if name not in received}
        return declared(received, self.config) | added

    def incoming(self, update: Update, received: Weights) -> Update:
        """Decode what came."""
        from fedmri.updates.codec import decode

        return decode(update, received, self.config)
