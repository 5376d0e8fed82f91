"""Each mistake of an operator, and the line that it gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import ConfigurationErrors, examine, load, read
from gateway.errors import OperatorError

ONE_KEY = [
    # text, what is said of it
    ("[ema]\nnumber = 0", "gateway.toml:2 ema.number: 0 is too small; 1 to 99999 is right"),
    ("[ema]\nnumber = 100000", "gateway.toml:2 ema.number: 100000 is too great; 1 to 99999 is right"),
    ('[ema]\nnumber = "1"', 'gateway.toml:2 ema.number: "1" is a text; write a whole number'),
    ("[ema]\nnumber = 1.5", "gateway.toml:2 ema.number: 1.5 is a number; write a whole number"),
    ("[ema]\nnumber = true", "gateway.toml:2 ema.number: true is true or false; write a whole number"),
    ("[ema]\nven_id = 7", "gateway.toml:2 ema.ven_id: 7 is a number; write a text in quotes"),
    ('[ema]\nven_id = "a b"', 'gateway.toml:2 ema.ven_id: "a b" holds blanks or quotes; leave them out'),
    (
        '[ema]\nlog_level = "loud"',
        'gateway.toml:2 ema.log_level: "loud" is not known; choose "debug", "info", "warning" or "error"',
    ),
    ("[ema]\nnmber = 1", "gateway.toml:2 ema.nmber: unknown key; did you mean number?"),
    ("[reports]\nperiod-s = 1", "gateway.toml:2 reports.period-s: unknown key; did you mean period_s?"),
    (
        "[reports]\nzzz = 1",
        "gateway.toml:2 reports.zzz: unknown key; there are period_s, change_s, change_w, explicit",
    ),
    ("[contol]\npass_s = 1", "gateway.toml:1 contol: unknown table; did you mean control?"),
    ("pass_s = 1", "gateway.toml:1 pass_s: stands outside a table; it belongs below [control]"),
    ("zzz = 1", "gateway.toml:1 zzz: unknown key; every key stands below a [table]"),
    ("[ema.deep]\nx = 1", "gateway.toml:1 ema.deep: is a deeper table; keys stand directly below the table"),
    ("[[ema]]\nnumber = 1", "gateway.toml:1 ema: is given more than once; write [ema] once"),
    ("ema = 3", "gateway.toml:1 ema: is not a table; write [ema] and its keys below"),
    ("[device]\nnumber = 1", "gateway.toml:1 device: is one table; write [[device]], once for each"),
    ("device = 3", "gateway.toml:1 device: is not a table; write [[device]] and its keys below"),
    (
        "[reports]\nexplicit = 1",
        "gateway.toml:2 reports.explicit: 1 is a number; write true or false",
    ),
    ("[control]\npass_s = nan", "gateway.toml:2 control.pass_s: nan is no number to work with; write a finite one"),
    ("[control]\npass_s = 0.01", "gateway.toml:2 control.pass_s: 0.01 is too small; at least 0.05 s is right"),
    (
        "[control]\nexport_w = -2",
        "gateway.toml:2 control.export_w: -2 is too small; at least 0 W, or -1 is right",
    ),
    ("[control]\nfuse_a = 16", "gateway.toml:2 control.fuse_a: 16 is not a list; write [16]"),
    (
        "[control]\nfuse_a = [16, 16]",
        "gateway.toml:2 control.fuse_a: [16, 16] is not right; give three numbers above 0, or none",
    ),
    ('[control]\nfuse_a = [16, "16", 16]', 'gateway.toml:2 control.fuse_a: "16" is a text; write a number'),
    ("[control]\ncap_w = 2020-01-01", "gateway.toml:2 control.cap_w: 2020-01-01 is a date; write a number"),
    ("[[device]]", "gateway.toml:1 device[0].number: is missing; the d of dev/<d>; unique below this EMA"),
    (
        "[[upstream]]",
        "gateway.toml:1 upstream[0].host: is missing; address of the EMS's broker; coap, udp: of the EMS itself",
    ),
    (
        "[control]\nthreshold_w = 500\nhard_w = 400",
        "gateway.toml:3 control.hard_w: 400 is below threshold_w 500, which then never counts; "
        "raise hard_w or lower threshold_w",
    ),
    (
        "[control]\nthreshold_w = 15",
        "gateway.toml:1 control.hysteresis_min_w: 20 is not below threshold_w 15: nothing would ever be restored; "
        "choose less",
    ),
    (
        "[control]\nthreshold_w = 50\nreserve_w = 50",
        "gateway.toml:3 control.reserve_w: 50 is not below threshold_w 50: every RDR would be denied; choose less",
    ),
    (
        "[control]\nstale_after_s = 2\npass_s = 3",
        "gateway.toml:2 control.stale_after_s: 2 is below pass_s 3: every reading would be too old; choose more",
    ),
    (
        f'[ema]\nstate_dir = "/{"x" * 100}"',
        f"gateway.toml:2 ema.state_dir: /{'x' * 100}/smartema.sock is longer than the 107 bytes a Unix socket "
        "may have; name a shorter path",
    ),
]

UPSTREAM = [
    # keys below [[upstream]] with host = "127.0.0.1" on line 2
    ("mode = 5", "gateway.toml:3 upstream[0].mode: 5 is not known; choose 0, 1, 2, 3 or 4"),
    ("mode = 0", "gateway.toml:3 upstream[0].mode: 0 is no mode over mqtt; choose one of 1, 2, 3, 4"),
    (
        'protocol = "coap"\nmode = 4',
        "gateway.toml:4 upstream[0].mode: 4 is no mode over coap; choose one of 0, 1, 2, 3",
    ),
    (
        'protocol = "coap"\ntls = true',
        "gateway.toml:4 upstream[0].tls: belongs to MQTT; over CoAP sources = [...] keeps strangers out",
    ),
    ("local_port = 5683", 'gateway.toml:3 upstream[0].local_port: belongs to protocol = "coap" and "udp"'),
    ('protocol = "amqp"', 'gateway.toml:3 upstream[0].protocol: "amqp" is not known; choose "mqtt", "coap" or "udp"'),
    ('protocol = "udp"\nmode = 2', "gateway.toml:4 upstream[0].mode: 2 is no mode over udp; choose one of 1, 4"),
    (
        'protocol = "udp"\nusername = "a"',
        "gateway.toml:4 upstream[0].username: belongs to MQTT; over UDP sources = [...] keeps strangers out",
    ),
    (
        'protocol = "udp"\nprofile = "emap1b"',
        'gateway.toml:4 upstream[0].profile: "emap1b" is not spoken over UDP; choose "mir2017"',
    ),
    (
        'protocol = "udp"\nsources = ["ems"]',
        'gateway.toml:4 upstream[0].sources: "ems" is neither an address nor a network; write such as "192.168.1.0/24"',
    ),
    ('ems_name = "HQ"', 'gateway.toml:3 upstream[0].ems_name: belongs to profile = "emap1b"'),
    (
        'profile = "emap1b"\nems_name = "a/b"',
        'gateway.toml:4 upstream[0].ems_name: "a/b" is no name of profile emap1b; '
        "write up to 64 letters, digits, _ - or .",
    ),
    (
        'profile = "emap1b"\n[ema]\nnumber = 3\nven_id = "HOUSE-4"',
        'gateway.toml:6 ema.ven_id: "HOUSE-4" cannot be the SrcEMA of EMA 3 in profile emap1b; '
        "write up to 64 letters, digits, _ - or . that end in its number, such as MIR_VEN3",
    ),
    ("port = -1", "gateway.toml:3 upstream[0].port: -1 is too small; 1 to 65535, or 0 is right"),
    (
        'timezone = "Asia/Soul"',
        'gateway.toml:3 upstream[0].timezone: "Asia/Soul" is no known time zone; did you mean Asia/Seoul?',
    ),
    (
        'timezone = "../etc"',
        'gateway.toml:3 upstream[0].timezone: "../etc" is no known time zone; write such as "Asia/Seoul"',
    ),
    (
        'password_file = "/none"',
        "gateway.toml:1 upstream[0].username: is missing; password_file belongs to an account",
    ),
    (
        'username = "u"\npassword_file = "/none"',
        "gateway.toml:4 upstream[0].password_file: /none: no such file or directory; "
        "put the file there or name another",
    ),
    (
        'tls = true\nca_file = "/"',
        "gateway.toml:4 upstream[0].ca_file: / is not a file; name the file itself",
    ),
    (
        'ca_file = "/etc/hostname"',
        "gateway.toml:3 upstream[0].ca_file: is given, but TLS is off; set tls = true",
    ),
    ('name = ""', 'gateway.toml:3 upstream[0].name: is empty; name it, such as "ems"'),
]

HOSTS = [
    ("a\\nb", r'"a\u000ab" is no host; write the name or address alone'),
    ("", "is empty; name the broker's address"),
    ("10.0.0.1:1883", '"10.0.0.1:1883" holds a port; write it in the key port'),
    ("mqtt://10.0.0.1", '"mqtt://10.0.0.1" is no host; write the name or address alone'),
]

DEVICE = [
    # keys below [[device]] with number = 1 on line 2
    ('link = "gpio"', "device[0].pin: is missing; name the output that switches the lamp, or its pwm_pin"),
    ('link = "mqtt"\npin = 18', 'device[0].pin: is for link = "gpio", and this is "mqtt"; leave it out'),
    ('link = "gpio"\npin = "red"', 'device[0].pin: "red" is no pin; write a BCM number such as 18, or chip:line'),
    (
        'link = "gpio"\npin = 18\nbutton_pin = 18',
        "device[0].button_pin: 18 is already used by this device; choose another pin",
    ),
    (
        'link = "gpio"\ntype = "ess"\npin = 1',
        "device[0].pins: names 0 outputs; an ESS has two: charge, discharge",
    ),
    (
        'link = "gpio"\ntype = "pv"\npins = [1, 2]',
        "device[0].pins: names 2 outputs for 4 steps of curtail_percent; name one relay a step",
    ),
    ('link = "gpio"\ntype = "ev"\npin = 1', "device[0].pwm_pin: is missing; name the output of the control pilot"),
    ('link = "gpio"\ntype = "ev"\npwm_pin = 1', "device[0].pin: is missing; name the output that closes the contactor"),
    (
        'link = "gpio"\ntype = "virtual"',
        'device[0].link: "gpio" has no virtual devices; choose "mqtt" or "coap"',
    ),
    (
        'link = "coap"\naddress = "192.168.1.200"',
        "device[0].address: 192.168.1.200 is not in [site_coap] sources, so it may not speak to us; add it there",
    ),
    (
        'link = "coap"\naddress = "lamp"',
        'device[0].address: "lamp" is no IP address; write the device\'s, such as "192.168.1.200"',
    ),
    ('address = "127.0.0.1"', 'device[0].address: is for link = "coap", and this is "mqtt"'),
    ("port = 5683", 'device[0].port: is for link = "coap", and this is "mqtt"'),
    (
        'link = "gpio"\npin = 1\nport = 5683',
        'device[0].port: is for link = "coap", and this is "gpio"',
    ),
    (
        'link = "coap"\nport = 5684',
        "device[0].port: 5684 is given without an address; name the device's address as well",
    ),
    ("min_w = 5\nmax_w = 1", "device[0].min_w: 5 is above max_w 1; swap them"),
    ("floor_soc = 95", "device[0].floor_soc: 95 is not below ceiling_soc 95; leave room between them"),
    ('safe = "idle"', 'device[0].safe: "idle" is nothing for a led; choose on or off'),
    ('name = "a b"', 'device[0].name: "a b" holds a blank or one of / + # ,; use such as "lamp-1"'),
    ("latency_s = 0.01", "device[0].latency_s: 0.01 is too small; at least 0.05 s, or -1 is right"),
]


def told(text: str) -> list[str]:
    return examine(text).mistakes


@pytest.mark.parametrize(("text", "line"), ONE_KEY)
def test_one_mistake(text: str, line: str) -> None:
    assert told(text)[:1] == [line]


@pytest.mark.parametrize(("keys", "line"), UPSTREAM)
def test_upstream(keys: str, line: str) -> None:
    assert line in told(f'[[upstream]]\nhost = "127.0.0.1"\n{keys}\n')


@pytest.mark.parametrize(("host", "what"), HOSTS)
def test_host(host: str, what: str) -> None:
    assert told(f'[[upstream]]\nhost = "{host}"') == [f"gateway.toml:2 upstream[0].host: {what}"]
    if host:
        assert told(f'[site_broker]\nhost = "{host}"') == [f"gateway.toml:2 site_broker.host: {what}"]


@pytest.mark.parametrize(("keys", "line"), DEVICE)
def test_device(keys: str, line: str) -> None:
    mistakes = told(f"[[device]]\nnumber = 1\n{keys}\n")
    assert [mistake.partition(" ")[2] for mistake in mistakes] == [line]


def test_every_mistake_at_once_in_the_order_of_the_lines() -> None:
    text = """\
[control]
threshold_w = -1
[[device]]
number = 1
name = "lamp-1"
link = "gpio"
pin = 18
[[device]]
number = 1
[[device]]
number = 3
name = "lamp-1"
[[device]]
number = 4
link = "gpio"
pin = 18
colour = "red"
[[upstream]]
name = "ems"
host = "127.0.0.1"
[[upstream]]
name = "ems"
host = "127.0.0.1"
port = 1884
"""
    assert told(text) == [
        "gateway.toml:2 control.threshold_w: -1 is too small; at least 0 W is right",
        "gateway.toml:9 device[1].number: 1 is already device[0] (lamp-1); choose another number",
        'gateway.toml:12 device[2].name: "lamp-1" is already the name of device[0]; choose another',
        "gateway.toml:16 device[3].pin: 18 is already used by lamp-1; choose another pin",
        "gateway.toml:17 device[3].colour: unknown key; there are " + _device_keys(),
        'gateway.toml:22 upstream[1].name: "ems" is already the name of upstream[0]; choose another',
        # what no line holds comes last
        "gateway.toml site_broker.port: 1883 is also the port of the EMS's broker on this machine (upstream[0]); "
        "choose another",
    ]


def _device_keys() -> str:
    import dataclasses

    from gateway.config.model import DeviceConfig

    return ", ".join(field.name for field in dataclasses.fields(DeviceConfig))


def test_the_user_of_a_pin_that_has_the_same_name() -> None:
    text = '[[device]]\nnumber = 1\nlink = "gpio"\npin = 18\n'
    assert told(text + text)[-1] == "gateway.toml:8 device[1].pin: 18 is already used by device[0]; choose another pin"


def test_a_default_name_may_be_taken_too() -> None:
    text = '[[device]]\nnumber = 2\nname = "led-1"\n[[device]]\nnumber = 1\n'
    assert told(text) == ['gateway.toml:4 device[1].name: "led-1" is already the name of device[0]; choose another']


def test_one_wrong_key_is_not_blamed_twice() -> None:
    assert told("[control]\nthreshold_w = 50\nhard_w = true") == [
        "gateway.toml:3 control.hard_w: true is true or false; write a number"
    ]


@pytest.mark.parametrize(
    ("mode", "well"), [(0o600, True), (0o400, True), (0o440, True), (0o644, False), (0o660, False), (0o604, False)]
)
def test_a_secret_is_closed_to_others(tmp_path: Path, mode: int, well: bool) -> None:
    secret = tmp_path / "password"
    secret.write_text("x\n")
    secret.chmod(mode)
    text = f'[[upstream]]\nhost = "127.0.0.1"\nusername = "ema"\npassword_file = "{secret}"\n'
    wrong = f"gateway.toml:4 upstream[0].password_file: {secret} is open to others ({mode:04o}); chmod 600 {secret}"
    assert told(text) == ([] if well else [wrong])


def test_an_empty_secret(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(0o600)
    text = f'[[device]]\nnumber = 1\npassword_file = "{secret}"\n'
    assert told(text) == [f"gateway.toml:3 device[0].password_file: {secret} is empty; write the secret into it"]


def test_certificate_and_key_come_together(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    pem.write_text("x")
    pem.chmod(0o600)
    lines = told(f'[site_broker]\ncert_file = "{pem}"\n[[upstream]]\nhost = "h"\ntls = true\nkey_file = "{pem}"\n')
    assert lines == [
        "gateway.toml:1 site_broker.key_file: is missing; a certificate needs its key",
        "gateway.toml:3 upstream[0].cert_file: is missing; a key needs its certificate",
    ]


MQTT = "[[device]]\nnumber = 1\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '[site_broker]\nbind = "0.0.0.0"\nanonymous = true\n' + MQTT,
            "gateway.toml:3 site_broker.anonymous: true would let anybody at 0.0.0.0 switch the devices; "
            "set false, or bind to 127.0.0.1",
        ),
        (
            '[site_broker]\nbind = "br-lan"\n' + MQTT,
            'gateway.toml:2 site_broker.bind: "br-lan" is no IP address; '
            'write one of this machine\'s, such as "192.168.1.1"',
        ),
        (
            '[site_broker]\nusername = "x"\n' + MQTT,
            "gateway.toml:2 site_broker.username: is for a broker that is there already; "
            "name it in host, or leave this out",
        ),
        (
            '[site_broker]\nhost = "h"\nanonymous = true\n' + MQTT,
            "gateway.toml:3 site_broker.anonymous: is for our own broker; leave it out where host names one",
        ),
        (
            '[[upstream]]\nhost = "localhost"\n' + MQTT,
            "gateway.toml site_broker.port: 1883 is also the port of the EMS's broker on this machine (upstream[0]); "
            "choose another",
        ),
        (
            '[site_coap]\nsources = ["192.168.1.0/33"]\n',
            'gateway.toml:2 site_coap.sources: "192.168.1.0/33" is neither an address nor a network; '
            'write such as "192.168.1.0/24"',
        ),
    ],
)
def test_listeners(text: str, line: str) -> None:
    assert told(text) == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = ", "gateway.toml:1: not TOML: invalid value; write key = value, texts in quotes"),
        (
            "[ema]\nnumber = 01",
            "gateway.toml:2: not TOML: expected newline or end of document after a statement; "
            "write key = value, texts in quotes",
        ),
        (
            "[ema]\nnumber = 1\nnumber = 2\n",
            "gateway.toml:3: not TOML: cannot overwrite a value; write key = value, texts in quotes",
        ),
    ],
)
def test_no_toml(text: str, line: str) -> None:
    assert told(text) == [line]


WARNINGS = [
    (
        '[[upstream]]\nhost = "10.0.0.1"\n' + MQTT,
        "gateway.toml:1 upstream[0].tls: 10.0.0.1 is reached without TLS: limits, reports and the password can be "
        "read and changed on the way; set tls = true",
    ),
    (
        '[[upstream]]\nhost = "10.0.0.1"\nport = 1883\ntls = true\n' + MQTT,
        "gateway.toml:3 upstream[0].port: 1883 is usually without TLS; 8883 is usual with tls = true",
    ),
    (
        '[control]\nhard_w = 1\n[site_broker]\nbind = "192.168.1.1"\n' + MQTT,
        "gateway.toml:4 site_broker.bind: 192.168.1.1 without TLS: passwords of devices can be read on the way; "
        "give cert_file and key_file",
    ),
    (
        '[control]\nhard_w = 1\n[site_coap]\nbind = "192.168.1.1"\n[[device]]\nnumber = 1\nlink = "coap"',
        "gateway.toml:3 site_coap.sources: is empty, so only this machine may speak to us; name the devices' network",
    ),
    (
        MQTT,
        "gateway.toml control.threshold_w: there is no EMS above and no limit: nothing would be held; "
        "set threshold_w, or add [[upstream]]",
    ),
    (
        '[control]\nhard_w = 1\n[site_broker]\nhost = "192.168.1.1"\nopen = true\n',
        "gateway.toml:5 site_broker.open: true: whoever has an account at 192.168.1.1 can become a device of this site",
    ),
    ("[control]\nhard_w = 1", "gateway.toml device: there is none: nothing can be shed; add [[device]]"),
]


@pytest.mark.parametrize(("text", "line"), WARNINGS)
def test_warnings_do_not_stop_it(text: str, line: str) -> None:
    found = examine(text)
    assert found.mistakes == []
    assert found.config is not None
    assert found.warnings == [line]


def test_our_own_broker_open_to_a_network() -> None:
    found = examine('[control]\nhard_w = 1\n[site_broker]\nbind = "192.168.1.1"\nopen = true\n')
    assert found.mistakes == []
    assert [line.split(": ", 1)[1] for line in found.warnings] == [
        "192.168.1.1 without TLS: passwords of devices can be read on the way; give cert_file and key_file",
        "true: whoever knows the password of guest can become a device of this site",
    ]
    assert examine("[control]\nhard_w = 1\n[site_broker]\nopen = true\n").warnings == []


def test_read_gives_types_and_defaults() -> None:
    config = read('[control]\nthreshold_w = 800\n[[device]]\nnumber = 3\nlink = "gpio"\npin = 18\n')
    assert config.control.threshold_w == 800.0
    assert isinstance(config.control.threshold_w, float)
    assert config.device[0].pin == "18"
    assert config.device[0].label == "led-3"
    assert config.ema.socket_path == "/var/lib/smartema/smartema.sock"


def test_relative_paths_count_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    (tmp_path / "password").chmod(0o600)
    file = tmp_path / "gateway.toml"
    file.write_text('[ema]\nstate_dir = "state"\n[[device]]\nnumber = 1\npassword_file = "password"\n')
    config = load(file)
    assert config.ema.state_dir == str(tmp_path / "state")
    assert config.device[0].password_file == str(tmp_path / "password")


def test_load_holds_all_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[ema]\nnumber = 0\nx = 1\n")
    with pytest.raises(ConfigurationErrors) as caught:
        load(file)
    assert len(caught.value.mistakes) == 2
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    assert caught.value.mistakes[0].startswith(f"{file}:2 ema.number: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"none\.toml: no such file; `smartema setup --output .*` writes one"):
        load(tmp_path / "none.toml")
    with pytest.raises(OperatorError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "latin").write_bytes(b"[ema]\n# caf\xe9\n")
    with pytest.raises(OperatorError, match="latin:2: is not UTF-8 text"):
        load(tmp_path / "latin")
