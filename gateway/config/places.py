"""What a configuration points at: hosts, addresses, time zones, files. Looks at this machine, opens no connection."""

from __future__ import annotations

import os
import re
import socket
import stat
from typing import TYPE_CHECKING

from gateway.config.lines import Path
from gateway.config.notes import Notes

if TYPE_CHECKING:
    import ipaddress

# Others may never read or change a secret, the group may not change it. It may read: systemd's credentials are 0440.
LOOSE = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


def is_loopback(host: str) -> bool:
    """Does this host name or address stay on this machine."""
    return host in ("localhost", "::1") or host.startswith("127.")


def host_name(host: str, at: Path, notes: Notes) -> None:
    """A broker's host: a name or an address, without port or path."""
    if not host:
        notes.wrong(at, "is empty; name the broker's address")
    elif "/" in host or re.search(r"\s", host):
        notes.wrong(at, f'"{host}" is no host; write the name or address alone')
    elif host.count(":") == 1:
        notes.wrong(at, f'"{host}" holds a port; write it in the key port')


def own_address(text: str, at: Path, notes: Notes) -> None:
    """An address to listen on."""
    if not is_address(text):
        notes.wrong(at, f'"{text}" is no IP address; write one of this machine\'s, such as "192.168.1.1"')


def is_address(text: str) -> bool:
    """Is this an IPv4 or IPv6 address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network or single address that the text names, None when it names none."""
    import ipaddress

    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def timezone(name: str, at: Path, notes: Notes) -> None:
    """A time zone that this machine knows."""
    if name == "UTC":
        return
    import zoneinfo  # not for nothing: it costs memory

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        import difflib

        known = sorted(zoneinfo.available_timezones())
        if not known:
            notes.wrong(at, f'"{name}" cannot be looked up: this machine has no time zone data; install tzdata')
            return
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else 'write such as "Asia/Seoul"'
        notes.wrong(at, f'"{name}" is no known time zone; {hint}')


def key_pair(cert: str, key: str, at: Path, notes: Notes) -> None:
    """A certificate and its key come together."""
    if cert and not key:
        notes.wrong((*at, "key_file"), "is missing; a certificate needs its key")
    if key and not cert:
        notes.wrong((*at, "cert_file"), "is missing; a key needs its certificate")


def file(path: str, at: Path, notes: Notes) -> os.stat_result | None:
    """A file that is there and can be read."""
    if not path:
        return None
    try:
        found = os.stat(path)
    except OSError as err:
        notes.wrong(at, f"{path}: {(err.strerror or str(err)).lower()}; put the file there or name another")
        return None
    if not stat.S_ISREG(found.st_mode):
        notes.wrong(at, f"{path} is not a file; name the file itself")
        return None
    if not os.access(path, os.R_OK):
        notes.wrong(at, f"{path} cannot be read by this user; give it to the user that runs smartema")
        return None
    return found


def secret(path: str, at: Path, notes: Notes) -> None:
    """Such a file that holds something and is closed to others."""
    found = file(path, at, notes)
    if found is None:
        return
    if found.st_size == 0:
        notes.wrong(at, f"{path} is empty; write the secret into it")
    elif found.st_mode & LOOSE:
        notes.wrong(at, f"{path} is open to others ({stat.S_IMODE(found.st_mode):04o}); chmod 600 {path}")


def listed(values: tuple[float, ...]) -> str:
    """Numbers as the file writes them."""
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"
