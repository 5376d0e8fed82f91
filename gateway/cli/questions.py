"""The questions of ``smartema setup``, in the words of the lab's start dialogue, into a configuration."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from gateway.cli.answers import absolute, address, address_or_none, host_port, joined, network_of, networks, readable
from gateway.cli.asking import Asker, choice, watts, whole
from gateway.cli.probes import try_broker
from gateway.cli.questions_coap import coap_upstream
from gateway.cli.questions_emas import emas_below, up_ema
from gateway.config.devices import PIN
from gateway.config.model import (
    Config,
    ControlConfig,
    DeviceConfig,
    EmaBelowConfig,
    EmaConfig,
    EmasBelowConfig,
    SiteBrokerConfig,
    SiteCoapConfig,
    UpstreamConfig,
)
from gateway.config.places import is_loopback

STATE_DIR = "/var/lib/smartema"
PASSWORD_FILE = "ems.password"  # noqa: S105 - a file's name
# Where our own mosquitto goes when the EMS's broker has 1883 of this machine.
SECOND_BROKER_PORT = 1884


class Dialogue:
    """Asks for one site. ``folder``: where the configuration will stand.

    ``secrets``: files to be written beside it, path and text.
    """

    def __init__(self, asker: Asker, folder: Path) -> None:
        self._asker = asker
        self._folder = folder
        self._numbers: set[int] = set()
        self._pins: set[str] = set()
        self.secrets: list[tuple[Path, str]] = []

    def site(self) -> Config:
        """Every question, in the lab's order."""
        coap_above = self._protocol() == 2
        upstream = coap_upstream(self._asker) if coap_above else self._upstream()
        is_up = upstream is not None and up_ema(self._asker, "CoAP" if coap_above else "MQTT")
        ask = self._asker.ask
        number = ask("EMA number, the n of gw/<n>?", "1", whole(1, 99999))
        threshold = ask("Threshold in W (0: none)?", "1000", watts)
        state_dir = ask("Folder for what must survive?", self._state_dir(), absolute)
        devices = tuple(self._device(index + 1) for index in range(ask("How many devices?", "0", whole(0, 1000))))
        emas = EmasBelowConfig()
        below: tuple[EmaBelowConfig, ...] = ()
        if is_up:
            emas, below = emas_below(self._asker, number, any(device.link == "coap" for device in devices))
        broker, coap = self._lan(devices, upstream, emas.mqtt)
        hysteresis = ControlConfig().hysteresis_min_w
        return Config(
            ema=EmaConfig(number=number, state_dir=state_dir),
            # With a small threshold the default would never let anything come back.
            control=ControlConfig(
                threshold_w=threshold,
                hysteresis_min_w=hysteresis if not 0 < threshold <= 2 * hysteresis else round(threshold / 10, 1),
            ),
            site_broker=broker,
            site_coap=coap,
            upstream=() if upstream is None else (upstream,),
            device=devices,
            emas_below=emas,
            ema_below=below,
        )

    def _protocol(self) -> int:
        return self._asker.ask("EMA/VEN/VTN Protocol Choice? 1 : MQTT , 2 : CoAP", "1", whole(1, 2))

    def _upstream(self) -> UpstreamConfig | None:
        print("address of the EMS's broker; none: a site without EMS")
        while True:
            host, port = self._asker.ask("Control for MQTT Broker IP?:", "127.0.0.1", host_port(1883))
            if not host:
                print("no EMS: the site is held under its own threshold")
                return None
            upstream = self._reach(UpstreamConfig(host=host, port=port))
            if upstream is not None:
                break
        mode = self._asker.ask(
            "MQTT DR MODE 1. EMS PUSH 2. EMS POLL, 3 EMA POLL, 4. EMA PUSH", str(upstream.mode), whole(1, 4)
        )
        return replace(upstream, mode=mode)

    def _reach(self, upstream: UpstreamConfig) -> UpstreamConfig | None:
        """Try the broker and tell; None: the operator wants to name another."""
        tls = upstream.port_used == 8883
        if tls or not is_loopback(upstream.host):
            tls = self._asker.yes("TLS to the broker?", tls)
        if tls:
            ca = self._asker.ask("CA certificate file (Enter: the system's)?", "", readable)
            upstream = replace(upstream, tls=True, ca_file=ca)
        answer = try_broker(upstream)
        print(answer.line)
        if answer.credentials:
            username = self._asker.ask("Broker account (Enter: none)?", "", str)
            password = self._password() if username else ""
            if password:
                upstream = replace(upstream, username=username, password_file=PASSWORD_FILE)
                answer = try_broker(upstream, password)
                print(answer.line)
        if answer.reached or not self._asker.yes("Name another broker?"):
            return upstream
        return None

    def _password(self) -> str:
        path = self._folder / PASSWORD_FILE
        if path.exists() and self._asker.yes(f"Use the password in {path}?", True):
            self.secrets = []
            return path.read_text(encoding="utf-8").strip()
        password = self._asker.secret("Broker password?")
        self.secrets = [(path, password + "\n")] if password else []
        return password

    def _state_dir(self) -> str:
        default = Path(STATE_DIR)
        nearest = default if default.exists() else default.parent
        return STATE_DIR if os.access(nearest, os.W_OK) else str((self._folder / "state").absolute())

    def _device(self, count: int) -> DeviceConfig:
        ask = self._asker.ask
        free = next(n for n in range(1, 100_000) if n not in self._numbers)
        number = ask(f"Device {count}: number, the d of dev/<d>?", str(free), self._unused)
        self._numbers.add(number)
        kind = ask("1.LED 2.PV 3.ESS 4.Car", "1", choice("led", "pv", "ess", "ev"))
        link = ask("1.MQTT 2.CoAP 3.GPIO", "1", choice("mqtt", "coap", "gpio"))
        priority = ask("Priority (the smaller sheds first; -1: the device's own)?", "-1", whole(-1, 99999))
        device = DeviceConfig(number=number, type=kind, link=link, priority=priority)
        if link == "coap":
            device = replace(device, address=ask("Device IP (Enter: any in our network)?", "", address_or_none))
        return self._wired(device) if link == "gpio" else device

    def _wired(self, device: DeviceConfig) -> DeviceConfig:
        power = self._asker.ask("Its power in W (0: learnt)?", "0", watts)
        if device.type == "led":
            device = replace(device, pin=self._pin("Output"), button_pin=self._pin("Button (Enter: none)", "none"))
            return replace(device, rated_w=power)
        if device.type == "pv":
            pins = tuple(self._pin(f"Relay for {share:g} %") for share in device.curtail_percent)
            return replace(device, pins=pins, min_w=-power)
        if device.type == "ess":
            device = replace(device, pin=self._pin("Enable"), pins=(self._pin("Charge"), self._pin("Discharge")))
            return replace(device, min_w=-power, max_w=power)
        return replace(device, pin=self._pin("Contactor"), pwm_pin=self._pin("Control pilot (PWM)"), max_w=power)

    def _pin(self, role: str, default: str = "") -> str:
        def parse(text: str) -> str:
            if text == "none" and default:
                return ""
            if not PIN.fullmatch(text):
                raise ValueError(f"{text!r}: write a BCM number such as 18, or chip:line")
            if text in self._pins:
                raise ValueError(f"{text}: is already used; choose another")
            return text

        pin = self._asker.ask(f"  {role}: BCM number?", default, parse)
        self._pins.add(pin)
        return pin

    def _unused(self, text: str) -> int:
        number = whole(0, 99999)(text)
        if number in self._numbers:
            raise ValueError(f"{number}: is already a device; choose another number")
        return number

    def _lan(
        self, devices: tuple[DeviceConfig, ...], upstream: UpstreamConfig | None, emas: bool
    ) -> tuple[SiteBrokerConfig, SiteCoapConfig]:
        """Where devices, and ``emas`` over MQTT, find us: this machine alone, or its address in their network."""
        links = {device.link for device in devices} & {"mqtt", "coap"} | ({"mqtt"} if emas else set())
        broker, coap = SiteBrokerConfig(), SiteCoapConfig()
        if not links:
            return broker, coap
        bind = self._asker.ask("This machine's IP in the devices' network?", broker.bind, address)
        if "mqtt" in links:
            broker = replace(broker, bind=bind)
            if _on_our_port(upstream, broker.port):
                broker = replace(broker, port=SECOND_BROKER_PORT)
                print(f"the EMS's broker has port 1883 here: ours for the devices is {SECOND_BROKER_PORT}")
        if "coap" in links:
            # One server for both where both are at one address.
            coap = replace(coap, bind=bind)
            if upstream is not None and upstream.bind == bind:
                coap = replace(coap, port=upstream.local_port)
            named = tuple(sorted({device.address for device in devices if device.address}))
            if not is_loopback(bind) or any(not is_loopback(address) for address in named):
                default = network_of(bind) if not is_loopback(bind) else ",".join(named)
                given = self._asker.ask("Who may speak CoAP to us (networks, with commas)?", default, networks)
                coap = replace(coap, sources=joined(given, named))
        return broker, coap


def _on_our_port(upstream: UpstreamConfig | None, port: int) -> bool:
    """Is the EMS's broker on this machine, where our own for the devices would listen."""
    if upstream is None or upstream.protocol != "mqtt":
        return False
    return is_loopback(upstream.host) and upstream.port_used == port
