"""Byte vectors of the device wire: a message, and the bytes that it is. Runs under MicroPython too.

The JSON ones are section 5a's rows with values put in; the others are the lab's own bytes and texts (2, 5).
"""

from device_agents.protocol import (
    Ack,
    Connected,
    Console,
    Gone,
    Hello,
    LabHello,
    Light,
    Rdr,
    RdrAnswer,
    Setpoint,
    Status,
)

VECTORS = (
    (Hello("gw/1", 3), b'{"ema":"gw/1","boot":3}'),
    (
        Connected(4, "led", 1, 7, None, None, ("switch", "level")),
        b'{"dev":4,"type":"led","priority":1,"boot":7,"addr":null,"port":null,"caps":["switch","level"]}',
    ),
    (
        Connected(6, "ess", 5, 7, "192.168.1.200", 5683, ("switch", "setpoint"), "10.0.0.9:4059", min_mw=-2500000,
                  max_mw=2000000, min_soc=200, max_soc=950, capacity_mwh=5000000),
        b'{"dev":6,"type":"ess","priority":5,"boot":7,"addr":"192.168.1.200","port":5683,"caps":["switch","setpoint"],'
        b'"meter":"10.0.0.9:4059","min_mw":-2500000,"max_mw":2000000,"min_soc":200,"max_soc":950,'
        b'"capacity_mwh":5000000}',
    ),
    (
        Status(4, 7, 1, on=True, dimming=9, mw=60000, mwh=0),
        b'{"dev":4,"boot":7,"seq":1,"on":true,"dimming":9,"mw":60000,"mwh":0}',
    ),
    (
        Status(6, 7, 2, on=True, mw=-1500000, mwh=-12, mv=277000, mhz=60000, soc=503, done=11),
        b'{"dev":6,"boot":7,"seq":2,"on":true,"mw":-1500000,"mwh":-12,"mv":277000,"mhz":60000,"soc":503,"done":11}',
    ),
    (
        Status(7, 1764000000000, 9, on=False, mw=0, plugged=True, need_mwh=26666667, depart_s=28800, safe=True),
        b'{"dev":7,"boot":1764000000000,"seq":9,"on":false,"mw":0,"plugged":true,"need_mwh":26666667,'
        b'"depart_s":28800,"safe":true}',
    ),
    (Rdr(4, 7, 5, 60000, 600), b'{"dev":4,"boot":7,"seq":5,"mw":60000,"for_s":600}'),
    (RdrAnswer("granted"), b'{"rdr":"granted"}'),
    (RdrAnswer("denied", "margin 12 W"), b'{"rdr":"denied","why":"margin 12 W"}'),
    (
        RdrAnswer("denied", '여유 "12" W \U0001f50b'),
        b'{"rdr":"denied","why":"\\uc5ec\\uc720 \\"12\\" W \\ud83d\\udd0b"}',
    ),
    (Setpoint(11, 60, on=False), b'{"id":11,"lease_s":60,"on":false}'),
    (Setpoint(12, 60, on=True, dimming=4), b'{"id":12,"lease_s":60,"on":true,"dimming":4}'),
    (Setpoint(13, 60, mw=-2000000), b'{"id":13,"lease_s":60,"mw":-2000000}'),
    (Setpoint(9007199254740991, 60, free=True), b'{"id":9007199254740991,"lease_s":60,"mw":null}'),
    (Gone(4, 7), b'{"dev":4,"boot":7}'),
    (Ack(), b"ack"),
    (Light(on=True), b"\x11\x1f"),
    (Light(on=False), b"\x11\x10"),
    (Light(step=1), b"\x31\x1a\x01"),
    (Light(step=-1), b"\x31\x1a\x00"),
    (Console(11, 4), b"4 11"),
    (Console(7), b"7"),
    (LabHello("192.168.1.200", None, 1), b"192.168.1.200/1/"),
    (LabHello(None, 4, 1, "led"), b"dev/4/led/1/"),
)  # fmt: skip

# Taken, though we write it otherwise: another order of keys, unknown keys, blanks, the lab's other byte.
ALSO = (
    (Gone(4, 7), b' { "boot" : 7 , "reason": [1.5, {"x": null}], "dev" : 4 } '),
    (Setpoint(1, 60), b'{"lease_s":60,"id":1,"on":null,"dimming":null}'),
    (Light(step=-1), b"\x31\x1a\xff"),
    (Console(15, 4), b"4/15"),
    (LabHello(None, 4, 2, "ev"), b"dev/4/ev/2"),
    (LabHello(None, 4, 0, "led"), b"dev/4"),
    (Connected(1, "pv", 0, 0, None, None, ("setpoint",)), b'{"dev":1,"type":"pv","boot":0,"caps":["fly","setpoint"]}'),
)

# Refused: the type asked to decode, the body, and a part of what the error says.
WRONG = (
    (Status, b"", "status: not JSON"),
    (Status, b"[]", "status: [] is not an object"),
    (Status, b'{"dev":4,"boot":7}', "status.seq: None"),
    (Status, b'{"dev":true,"boot":7,"seq":1}', "status.dev: True"),
    (Status, b'{"dev":4.0,"boot":7,"seq":1}', "status.dev: 4.0"),
    (Status, b'{"dev":"4","boot":7,"seq":1}', "status.dev: '4'"),
    (Status, b'{"dev":-1,"boot":7,"seq":1}', "status.dev: -1"),
    (Status, b'{"dev":4,"boot":7,"seq":1,"dimming":10}', "status.dimming: 10"),
    (Status, b'{"dev":4,"boot":7,"seq":1,"soc":1001}', "status.soc: 1001"),
    (Status, b'{"dev":4,"boot":7,"seq":1,"on":1}', "status.on: 1 is not true or false"),
    (Status, b'{"dev":4,"boot":7,"seq":1,"mw":1000000000001}', "status.mw: 1000000000001"),
    (Status, b'{"dev":4,"boot":7,"seq":123456789012345678901234567890}', "status.seq: 1234"),
    (Status, b"[" * 2000, "status: not JSON"),
    (Status, b'{"dev":4' + b" " * 2048 + b"}", "status: 2057 bytes"),
    (Status, b'{"dev":"' + b"x" * 500 + b'"}', "..."),
    (Connected, b'{"dev":4,"type":"tv","boot":7}', "connected.type: 'tv' is none of led"),
    (Connected, b'{"dev":4,"type":["led"],"boot":7}', "connected.type: ['led']"),
    (Connected, b'{"dev":4,"type":"led","boot":7,"caps":"switch"}', "connected.caps: 'switch'"),
    (Connected, b'{"dev":4,"type":"led","boot":7,"port":0}', "connected.port: 0"),
    (Connected, b'{"dev":4,"type":"led","boot":7,"meter":"10.0.0.9"}', "connected.meter: '10.0.0.9' is not host:port"),
    (Setpoint, b'{"lease_s":60}', "setpoint.id: None"),
    (Setpoint, b'{"id":0,"lease_s":60}', "setpoint.id: 0"),
    (Setpoint, b'{"id":1,"lease_s":0}', "setpoint.lease_s: 0"),
    (Rdr, b'{"dev":4,"boot":7,"seq":5,"mw":0,"for_s":600}', "rdr.mw: 0"),
    (RdrAnswer, b'{"rdr":"yes"}', "rdr answer.rdr: 'yes'"),
    (Hello, b'{"ema":1,"boot":1}', "hello.ema: 1 is not a text"),
    (Hello, b'{"ema":"\\ud83d","boot":1}', "hello.ema: "),
    (Light, b"\x11\x11", "light: "),
    (Console, b"on", "light: b'on'"),
    (Console, b"1 2 3", "light: "),
    (LabHello, b"192.168.1.200", "connected: '192.168.1.200' is neither"),
    (LabHello, b"house/1/", "connected: 'house/1/'"),
    (LabHello, b"\xff\xfe", "connected: "),
)
