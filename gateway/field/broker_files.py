"""Files of a mosquitto: accounts, topic rights, settings. For the site broker, and for the EMS's own.

A limit of both wires: `connected`, `disconnected` and `EMS/...` are shared topics whose body names the sender, so
an access list cannot stop one account from speaking for another there. It keeps strangers out, and each device
and EMA away from the commands and states of the others.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gateway.config.model import DeviceConfig, EmaBelowConfig
from gateway.errors import OperatorError

EMA_ACCOUNT = "ema"
EMS_ACCOUNT = "ems"
# The EMS's name in profile emap1b where nothing else is said.
EMS_NAME = "MIR_EMS"
# Of devices that no [[device]] names, where such may come.
GUEST_ACCOUNT = "guest"
# mosquitto_passwd's own count; it is what mosquitto 2.0 expects where none is said.
PBKDF2_ROUNDS = 101
SALT_BYTES = 12
PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def new_password() -> str:
    """192 random bits, as text that every configuration file takes."""
    return base64.urlsafe_b64encode(os.urandom(24)).decode()


def device_account(number: int) -> str:
    """The broker account of dev/<number>."""
    return f"dev-{number}"


def ema_account(number: int) -> str:
    """The account of gw/<number> on the EMS's broker."""
    return f"gw-{number}"


def read_secret(path: Path) -> str:
    """The first line of a secret's file. Raise ``OperatorError`` when it is missing, empty or open to others."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        raise OperatorError(f"{path}: {reason}; it has to hold a password on one line, mode 0600") from err
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise OperatorError(f"{path}: mode {stat.S_IMODE(mode):04o} lets others read a password; chmod 600 {path}")
    secret = text.splitlines()[0].strip() if text.strip() else ""
    if not secret:
        raise OperatorError(f"{path}: empty; it has to hold a password on its first line")
    return secret


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, never readable by others, not even while it is written."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def private_directory(path: Path) -> None:
    """Make a directory that only we can enter. Raise ``OperatorError`` when it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(PRIVATE_DIRECTORY)
    except OSError as err:
        raise OperatorError(f"{path}: {err.strerror}; choose another ema.state_dir") from err


def password_path(device: DeviceConfig, state_dir: Path) -> Path:
    """Where the password of a device's broker account stands: as configured, else made by us in the state directory."""
    if device.password_file:
        return Path(device.password_file)
    return state_dir / "device-passwords" / device_account(device.number)


def device_password(device: DeviceConfig, state_dir: Path, token: Callable[[], str] = new_password) -> str:
    """A device's password; made and kept (mode 0600) where none is configured. Raise ``OperatorError``."""
    path = password_path(device, state_dir)
    return read_secret(path) if device.password_file else _kept_password(path, token)


def guest_password(state_dir: Path, token: Callable[[], str] = new_password) -> str:
    """The password of the account that strangers share; made and kept likewise. Raise ``OperatorError``."""
    return _kept_password(state_dir / "device-passwords" / GUEST_ACCOUNT, token)


def ema_password(ema: EmaBelowConfig, state_dir: Path, token: Callable[[], str] = new_password) -> str:
    """The password of an EMA below; made and kept likewise where none is configured. Raise ``OperatorError``."""
    if ema.password_file:
        return read_secret(Path(ema.password_file))
    return _kept_password(state_dir / "ema-passwords" / ema_account(ema.number), token)


def _kept_password(path: Path, token: Callable[[], str]) -> str:
    if not path.exists():
        private_directory(path.parent)
        try:
            write_private(path, token() + "\n")
        except OSError as err:
            raise OperatorError(f"{path}: {err.strerror}; choose another ema.state_dir") from err
    return read_secret(path)


def password_line(account: str, password: str, salt: bytes | None = None) -> str:
    """One line of a mosquitto password file; ``salt`` None keeps the text, for a mosquitto built without TLS.

    That build (OpenWrt's mosquitto-nossl) has no digest and compares the line as it stands.
    """
    if salt is None:
        return f"{account}:{password}"
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PBKDF2_ROUNDS)
    return f"{account}:$7${PBKDF2_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def password_file(accounts: Iterable[tuple[str, str]], hashed: bool = True) -> str:
    """The password file of these (account, password) pairs."""
    lines = (password_line(name, secret, os.urandom(SALT_BYTES) if hashed else None) for name, secret in accounts)
    return "".join(line + "\n" for line in lines)


def generate_site_acl(
    numbers: Sequence[int], anonymous: bool = False, guests: bool = False, emas: Sequence[int] = ()
) -> str:
    """Topic rights on the site broker: each device its own topics, the EMA all (wire reference, 5a); ``guests`` those
    that are no configured device's; ``emas`` below us those that an EMA has on an EMS's broker."""
    parts = ["topic readwrite #\n"] if anonymous else []
    if guests and not anonymous:
        taken = [f"topic deny {topic}/{number}\n" for number in numbers for topic in ("status", "rdr", "dev")]
        free = "topic write connected\ntopic write disconnected\ntopic write status/+\ntopic write rdr/+\n"
        parts.append(f"user {GUEST_ACCOUNT}\n{''.join(taken)}{free}topic read hello\ntopic read dev/+\n")
    parts.append(f"user {EMA_ACCOUNT}\ntopic readwrite #\n")
    for number in numbers:
        parts.append(
            f"user {device_account(number)}\n"
            "topic write connected\n"
            "topic write disconnected\n"
            f"topic write status/{number}\n"
            f"topic write rdr/{number}\n"
            "topic read hello\n"
            f"topic read dev/{number}\n"
        )
    for number in emas:
        parts.append(
            f"user {ema_account(number)}\ntopic read gw/{number}/#\ntopic read gw/pushall/#\ntopic write EMS/#\n"
        )
    return "\n".join(parts)


def generate_ems_acl(ema_numbers: Iterable[int], ems_name: str = EMS_NAME) -> str:
    """Topic rights on the EMS's broker: only the EMS writes ``gw/#``; an EMA reads its own and what goes to all. In
    profile emap1b, where topics name both, each has its own below ``/EMAP``; an EMA is called MIR_VEN<n> there."""
    emap = f"/EMAP/{ems_name}/1.0b/#"
    parts = [f"user {EMS_ACCOUNT}\ntopic write gw/#\ntopic read EMS/#\ntopic write /EMAP/+/1.0b/+\ntopic read {emap}\n"]
    for number in ema_numbers:
        parts.append(
            f"user {ema_account(number)}\ntopic read gw/{number}/#\ntopic read gw/pushall/#\ntopic write EMS/#\n"
            f"topic read /EMAP/MIR_VEN{number}/1.0b/#\ntopic write {emap}\n"
        )
    return "\n".join(parts)


def write_ems_files(
    directory: Path,
    ema_numbers: Sequence[int],
    bind: str,
    port: int,
    token: Callable[[], str] = new_password,
    ems_name: str = EMS_NAME,
) -> list[Path]:
    """Write what the EMS's broker needs into ``directory``: settings, rights, accounts, one password file each.

    A password that stands there already is kept, so that an EMA can be added without touching the others.
    Returns the files: ``mosquitto.conf`` first. Raise ``OperatorError``.
    """
    private_directory(directory)
    accounts = [(EMS_ACCOUNT, directory / f"{EMS_ACCOUNT}.password")]
    accounts += [(ema_account(n), directory / f"{ema_account(n)}.password") for n in ema_numbers]
    settings, rights, accounts_file = (directory / name for name in ("mosquitto.conf", "acl", "passwords"))
    try:
        for _, path in accounts:
            if not path.exists():
                write_private(path, token() + "\n")
        write_private(rights, generate_ems_acl(ema_numbers, ems_name))
        write_private(accounts_file, password_file((name, read_secret(path)) for name, path in accounts))
        write_private(
            settings,
            f"listener {port} {bind}\n"
            "allow_anonymous false\n"
            f"password_file {accounts_file.absolute()}\n"
            f"acl_file {rights.absolute()}\n"
            "set_tcp_nodelay true\n"
            "max_inflight_messages 1000\n"
            "max_queued_messages 100000\n" + ("user root\n" if os.geteuid() == 0 else ""),
            # Else mosquitto started by root becomes another user before it reads files that are root's alone.
        )
    except OSError as err:
        raise OperatorError(f"{err.filename or directory}: {err.strerror}; choose another directory") from err
    return [settings, rights, accounts_file, *(path for _, path in accounts)]
