"""What all devices do alike: come and go, carry out commands once, keep the lease, tell their state (wire, 5a).

Sans-I/O and in the MicroPython subset: bodies in, bodies out, and elapsed milliseconds handed in by ``tick``.
A runner (run_mqtt.py, run_coap.py) carries the bodies.
"""

from device_agents.plant import Plant
from device_agents.protocol import (
    ACK,
    CONSOLE_OFF,
    CONSOLE_ON,
    GRANTED,
    PENDING,
    Ack,
    Connected,
    Console,
    Gone,
    Hello,
    Light,
    Message,
    Rdr,
    RdrAnswer,
    Setpoint,
    Status,
    decode_light,
    decode_to_device,
)

# Before the first command says otherwise; the EMA's default (docs/control.md).
LEASE_S = 60
# A change of power below the greater of 5 W and a fiftieth of the rated power waits for the period.
CHANGE_MW = 5000
CHANGE_SHARE = 50
# An RDR that nobody answered by then may be asked again.
RDR_ANSWER_MS = 5000


class Agent:
    """One device. ``changed``: its state is to be told at once. ``safe``: its lease ended, and no command came since.

    ``boot`` counts the starts of this device and must grow over restarts. ``rated_mw`` is the most it draws, or gives.
    """

    kind = "virtual"
    caps: tuple[str, ...] = ()

    def __init__(
        self,
        dev: int,
        priority: int,
        boot: int,
        plant: Plant,
        rated_mw: int,
        lease_s: int = LEASE_S,
        rdr_for_s: int = 600,
        meter: str | None = None,
    ) -> None:
        self.plant = plant
        self.dev = dev
        self.priority = priority
        self.boot = boot
        self.rated_mw = rated_mw
        # Where it serves CoAP; a runner that does so fills it in.
        self.addr: str | None = None
        self.port: int | None = None
        self.meter = meter
        self.rdr_for_s = rdr_for_s
        self.changed = True
        self.safe = False
        self.rdr: RdrAnswer | None = None
        self.quit = False
        self.done = 0
        self._seq = 0
        self._now_ms = 0
        self._heard_ms = 0
        self._lease_ms = lease_s * 1000
        self._newest = 0
        self._ema = ""
        self._ema_boot = 0
        self._held_when_lost = False
        self._asked_ms: int | None = None
        self._asked: bytes | None = None
        self._told_mw: int | None = None

    # What a kind of device adds.

    def apply(self, setpoint: Setpoint) -> None:
        """Carry out what applies of an absolute command."""
        raise NotImplementedError

    def held(self) -> bool:
        """Does the EMA hold it to less than it would do by itself."""
        raise NotImplementedError

    def release(self) -> None:
        """Run as when nothing constrains it."""
        raise NotImplementedError

    def to_safe(self) -> None:
        """Go to the safe state."""
        raise NotImplementedError

    def missing_mw(self) -> int:
        """How much more it would take if it were free: what an RDR asks. 0: nothing to ask back."""
        return 0

    def light(self, light: Light) -> None:
        """The lab's control bytes; those that mean nothing to this kind are ignored."""
        if light.on is not None:
            self.apply(Setpoint(0, 0, on=light.on))

    def key(self, code: int) -> str:
        """A code of the lab's console, typed here or sent to ``light``. Returns a line for a person."""
        if code in (CONSOLE_ON, CONSOLE_OFF):
            self.light(Light(on=code == CONSOLE_ON))
            self.changed = True
            return "on" if code == CONSOLE_ON else "off"
        return f"{code}: no such key"

    def menu(self) -> tuple[str, ...]:
        """What the lab's console shows, a line each."""
        return ("on=11", "off=15")

    def fill(self, status: Status) -> None:
        """Write what this kind says of itself into its status."""

    def announce(self, connected: Connected) -> None:
        """Write what this kind says of itself into its announcement."""

    # Bodies out.

    def connected(self) -> bytes:
        """Body of ``connected``."""
        message = Connected(
            self.dev, self.kind, self.priority, self.boot, self.addr, self.port, self.caps, meter=self.meter
        )
        self.announce(message)
        return message.encode()

    def gone(self) -> bytes:
        """Body of ``disconnected``: the good-bye."""
        return Gone(self.dev, self.boot).encode()

    def last_will(self) -> bytes:
        """Body of ``disconnected`` that the broker says for it: it may still run."""
        return Gone(self.dev, self.boot, True).encode()

    def status(self) -> bytes:
        """Body of ``status`` now; it is told, so ``changed`` falls."""
        self.changed = False
        self._told_mw = self.plant.mw()
        return self.state()

    def state(self) -> bytes:
        """The same for an answer that may be overlooked: what is to be told stays to be told."""
        self._seq += 1
        mw, mwh = self.plant.mw(), self.plant.mwh()
        status = Status(self.dev, self.boot, self._seq, mw=mw, mwh=mwh, done=self.done or None)
        if self.safe:
            status.safe = True
        self.fill(status)
        return status.encode()

    def press(self) -> bool:
        """The button: ask the power back. False: there is nothing to ask, or an answer is still awaited."""
        missing = self.missing_mw()
        if missing <= 0 or (self._asked_ms is not None and self._now_ms - self._asked_ms < RDR_ANSWER_MS):
            return False
        self._seq += 1
        self._asked_ms = self._now_ms
        self._asked = Rdr(self.dev, self.boot, self._seq, missing, self.rdr_for_s).encode()
        return True

    def take_rdr(self) -> bytes | None:
        """Body of ``rdr`` that is to be sent now, once."""
        body = self._asked
        self._asked = None
        return body

    # Bodies and time in.

    def received(self, body: bytes) -> Message:
        """Whatever came on ``dev/<d>`` or ``PUT /setpoint``, ``/ack``, ``/rdr``. Raise ``WireError``."""
        message = Ack() if body == ACK else decode_to_device(body)
        self._take(message)
        return message

    def received_light(self, body: bytes) -> Message:
        """Body of ``PUT /light``. Raise ``WireError``."""
        message = decode_light(body)
        self._take(message)
        return message

    def received_hello(self, body: bytes) -> None:
        """The EMA started: ``connected`` is to be sent again. Raise ``WireError``."""
        hello = Hello.decode(body)
        if hello.ema != self._ema or hello.boot < self._ema_boot:
            # Another EMA, or one whose memory was lost, counts its commands from the start.
            self._forget_count()
        self._ema = hello.ema
        self._ema_boot = hello.boot
        self.heard()

    def heard(self) -> None:
        """A sign of life of the EMA: the lease runs anew."""
        self._heard_ms = self._now_ms
        if self.safe and not self._held_when_lost:
            # Nothing was held when the EMA was lost, so it will send no command that ends the safe state.
            self._end_safe()
            self.release()

    def tick(self, elapsed_ms: int) -> None:
        """So much time went by. Watches the lease, and what the plant does by itself."""
        self._now_ms += elapsed_ms
        if not self.safe and self._now_ms - self._heard_ms >= self._lease_ms:
            self.safe = True
            self.changed = True
            # Whoever speaks after this lease may count anew: a new EMA over CoAP says no hello.
            self._forget_count()
            self._held_when_lost = self.held()
            self.to_safe()
        self.follow()
        told = self._told_mw
        if told is not None and abs(self.plant.mw() - told) >= max(CHANGE_MW, self.rated_mw // CHANGE_SHARE):
            self.changed = True

    def follow(self) -> None:
        """Look at what the plant did by itself: a car came, a battery is full."""

    @property
    def lease_left_ms(self) -> int:
        """Until the lease ends; 0 when it has."""
        return 0 if self.safe else max(self._lease_ms - (self._now_ms - self._heard_ms), 0)

    def _forget_count(self) -> None:
        """Of the commands carried out: said of another EMA's, ``done`` would confirm what never came."""
        self._newest = 0
        self.done = 0

    def _end_safe(self) -> None:
        self.safe = False
        self.changed = True

    def _take(self, message: Message) -> None:
        if isinstance(message, Setpoint):
            self._command(message)
        elif isinstance(message, RdrAnswer):
            self.heard()
            if message.rdr != PENDING:
                self._asked_ms = None
            elif self._asked_ms is None:
                return  # over CoAP what became of it can come before the answer to the question
            self.rdr = message
        elif isinstance(message, Light):
            self._local(message)
        elif isinstance(message, Console):
            if message.number is None or message.number == self.dev:
                self.heard()
                self.key(message.code)
        else:
            self.heard()

    def _local(self, light: Light) -> None:
        # A command of the lab has neither id nor lease; it counts as one all the same.
        self._heard_ms = self._now_ms
        self.safe = False
        self.light(light)
        self.changed = True

    def _command(self, command: Setpoint) -> None:
        if command.id <= self._newest:
            # Old: overtaken by a newer one. Doubled: carried out already, and its sender waits for the state.
            self.heard()
            self.changed = True
            return
        self._heard_ms = self._now_ms
        self._lease_ms = command.lease_s * 1000
        self._newest = command.id
        self.safe = False
        if command.free:
            self.release()
        self.apply(command)
        self.done = command.id
        self.changed = True

    @property
    def granted(self) -> bool:
        """Was the last RDR granted."""
        return self.rdr is not None and self.rdr.rdr == GRANTED


def clamp(value: int, least: int, most: int) -> int:
    """The nearest value inside the bounds."""
    return least if value < least else most if value > most else value
