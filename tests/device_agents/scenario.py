"""One run through codec and behaviours that prints what it saw: the same lines under CPython and MicroPython."""

from device_agents.battery import Battery
from device_agents.car import Car
from device_agents.lamp import Lamp
from device_agents.panel import Panel
from device_agents.plant import BatteryPlant, CarPlant, LampPlant, PanelPlant
from device_agents.protocol import Light, RdrAnswer, Setpoint, Status, WireError
from device_agents.ujson_shim import dump, dumps, load, loads
from tests.device_agents.vectors import ALSO, VECTORS, WRONG


class BoardLamp(LampPlant):
    def __init__(self):
        self.now = 0

    def set(self, on, dimming):
        self.now = 6000 * (dimming + 1) if on else 0

    def mw(self):
        return self.now

    def mwh(self):
        return 0


class BoardPanel(PanelPlant):
    def __init__(self):
        self.most = None
        self.on = True

    def set(self, on, most_mw):
        self.on = on
        self.most = most_mw

    def mw(self):
        return -min(1500000, 1500000 if self.most is None else self.most) if self.on else 0

    def mwh(self):
        return -1

    def mv(self):
        return 230000


class BoardBattery(BatteryPlant):
    def __init__(self, soc):
        self.now = 0
        self.charge = soc

    def set(self, mw):
        self.now = mw

    def mw(self):
        return self.now

    def mwh(self):
        return 0

    def soc(self):
        return self.charge

    def mv(self):
        return 277000

    def mhz(self):
        return 60000


class BoardCar(CarPlant):
    def __init__(self):
        self.amps = 0
        self.there = True

    def offer(self, amps):
        self.amps = amps

    def mw(self):
        return self.amps * 230000 if self.there else 0

    def mwh(self):
        return 0

    def plugged(self):
        return self.there

    def soc(self):
        return 400

    def need_mwh(self):
        return 20000000

    def depart_s(self):
        return 3600


class Stream:
    def __init__(self, text=""):
        self.text = text

    def write(self, text):
        self.text += text

    def read(self):
        return self.text


def codec(say):
    for message, body in VECTORS:
        say(str(message.encode() == body and type(message).decode(body) == message) + " " + body.decode("latin-1"))
    for message, body in ALSO:
        say(repr(type(message).decode(body) == message))
    for kind, body, part in WRONG:
        try:
            kind.decode(body)
            say("taken: " + repr(body))
        except WireError as err:
            say(repr(part in str(err)) + " " + part)


def json(say):
    stream = Stream()
    dump({"a": [1, -2, True, False, None, 'é\n\t"\\/', 0.5]}, stream)
    say(stream.text)
    say(repr(load(stream) == {"a": [1, -2, True, False, None, 'é\n\t"\\/', 0.5]}))
    for wrong in (float("nan"), float("inf"), b"x", {1: 2}, object()):
        try:
            say(dumps(wrong))
        except ValueError:
            say("ValueError")
    for text in ("", "{", "nul", b"\xff", "[" * 5000, '"\\ud800'):
        try:
            loads(text)
            say("taken")
        except ValueError:
            say("ValueError")


def tell(say, agent):
    """The status, and that it is told: fields in a fixed order, as dict order is not kept on a board."""
    body = agent.status()
    assert Status.decode(body).dev == agent.dev
    say(body.decode())


def behaviours(say):
    agents = (
        Lamp(4, 3, 7, BoardLamp(), 60000),
        Panel(5, 1, 7, BoardPanel(), 3000000),
        Battery(6, 5, 7, BoardBattery(500), 2000000, 2500000, 5000000),
        Battery(7, 5, 7, BoardBattery(200), 2000000, 2500000),
        Car(8, 2, 7, BoardCar()),
    )
    commands = (
        Setpoint(1, 60, on=False),
        Setpoint(2, 60, on=True, dimming=4, mw=-1000000),
        Setpoint(2, 60, on=False),
        Setpoint(1, 60, on=False),
        Setpoint(3, 60, mw=3000000),
        Setpoint(4, 30, mw=1380000),
        Setpoint(5, 30, free=True),
        Setpoint(6, 20, dimming=0, mw=1000000),
    )
    for agent in agents:
        say(agent.connected().decode())
        tell(say, agent)
        for command in commands:
            agent.tick(1000)
            agent.received(command.encode())
            tell(say, agent)
        agent.tick(19000)
        say("safe=" + repr(agent.safe) + " " + repr(agent.lease_left_ms))
        agent.tick(2000)
        tell(say, agent)
        agent.received(b"ack")
        tell(say, agent)
        agent.received_hello(b'{"ema":"gw/1","boot":1}')
        agent.received(Setpoint(1, 60, on=False).encode())
        tell(say, agent)
        agent.tick(60000)
        agent.tick(1)
        say("pressed=" + repr(agent.press()) + repr(agent.take_rdr()) + repr(agent.take_rdr()))
        agent.received(RdrAnswer("denied", "no margin").encode())
        say(repr(agent.rdr) + repr(agent.granted))
        for key in (0, 1, 7, 8, 9, 11, 15, 99, 3):
            say(agent.key(key))
            tell(say, agent)
        for body in (b"\x11\x1f", b"\x31\x1a\x00", b"9 11", b"4 15"):
            agent.received_light(body)
            tell(say, agent)
        agent.light(Light(step=1))
        say("quit=" + repr(agent.quit) + " " + "|".join(agent.menu()) + " " + agent.gone().decode())


def main(say=print):
    codec(say)
    json(say)
    behaviours(say)
