"""What an EMS says of loans and prices, and what we say to it: translated, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.control.negotiation.messages import FromMember
    from gateway.links.mir2017 import client_happenings as link
    from gateway.links.mir2017 import messages as wire
    from gateway.links.mir2017.client import ClientOutput
    from gateway.upstream.base import UpperInputs


class Negotiations:
    """The words of one session. A profile whose client has no ``negotiate`` has none."""

    def __init__(
        self, name: str, client: Any, inputs: UpperInputs, post: Callable[[Iterable[ClientOutput]], None]
    ) -> None:
        self._name = name
        self._client = client
        self._inputs = inputs
        self._post = post

    @property
    def possible(self) -> bool:
        """Has the profile words for it."""
        return hasattr(self._client, "negotiate")

    def say(self, message: FromMember) -> None:
        """To the coordinator."""
        from gateway.negotiation_words import written

        sends: list[wire.Send] = self._client.negotiate(written(self._client.ema, message))
        self._post(sends)

    def heard(self, output: link.Negotiated) -> None:
        """From the coordinator. The lab's own answer belongs to nobody who asks in our form."""
        from gateway.links.mir2017.messages.negotiation import Negotiation
        from gateway.negotiation_words import from_coordinator

        if isinstance(output.message, Negotiation):
            self._inputs.negotiated(self._name, from_coordinator(output.message))

    def priced(self, output: link.PriceReceived) -> None:
        """A budget message; a price that comes with a control event (no name) is an incentive for it."""
        self._inputs.priced(self._name, output.budget or "Incentive", output.price, output.unit)
