"""The EMA's end of profile ``emap1b`` over CoAP, sans-I/O, driven like ``links.mir2017.coap.client``: PUT on
``EMAP/<dest>/1.0b/…``, events pushed, pulled or observed.
"""

from __future__ import annotations

from gateway.errors import PeerError
from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.client import Client
from gateway.links.emap1b.messages import Carrier, Channel
from gateway.links.mir2017.client_happenings import ClientOutput
from gateway.links.mir2017.messages import Send
from gateway.links.mir2017.messages.fields import shown
from gateway.record import record


@record
class Ask(Send):
    """A PUT to the EMS; ``topic`` is its path."""

    request_id: str = ""


class CoapClient(Client):
    """One EMA below one EMS: PUT each ``Ask`` and hand its answer to ``answered``, whatever the order; hand what the
    EMS PUTs to ``serves`` to ``requested`` and each notification of ``observes`` to ``notified``. None of them raises.
    """

    carrier = Carrier.COAP
    pairs = True

    @property
    def serves(self) -> tuple[str, ...]:
        """The paths that the EMS writes to."""
        return (emap.coap_path(emap.topic(self.ven_id, Channel.EVENT)),)

    @property
    def observes(self) -> str:
        """What to observe on the EMS: ``EMAP1.0b/<EMA>``."""
        return emap.observe_path(self.ven_id)

    def _send(self, message: emap.Message, channel: Channel | None = None) -> Send:
        path = emap.coap_path(emap.topic(self.ems_name, channel or message.channel))
        return Ask(path, message.encode(), request_id=message.request_id)

    def answered(self, ask: Send, body: bytes, failure: str = "") -> list[ClientOutput]:
        """The answer to one ``Ask``; an empty one says nothing. ``failure``: the words of a code other than 2.xx."""
        try:
            if failure:
                raise PeerError(f"answer: {failure}")
            asked = ask.request_id if isinstance(ask, Ask) else ""
            return self._hear(emap.parse_topic(emap.coap_topic(ask.topic)).channel, body, asked) if body else []
        except PeerError as err:
            return self._refuse(ask.topic, str(err))

    def requested(self, path: str, body: bytes) -> tuple[bool, list[ClientOutput]]:
        """The EMS PUTs. (is there such a resource and was its body right, what happened)."""
        try:
            if path.removeprefix("/") not in self.serves:
                raise PeerError(f"path {shown(path)}: is not in the profile")
            return True, self._hear(Channel.EVENT, body)
        except PeerError as err:
            return False, self._refuse(path, str(err))

    def notified(self, body: bytes) -> list[ClientOutput]:
        """A notification of ``observes``: ``Initial_Success`` (or nothing) first, an event each time after that."""
        if not body or body == emap.INITIAL:
            return []
        try:
            return self._hear(Channel.EVENT, body)
        except PeerError as err:
            return self._refuse(self.observes, str(err))
