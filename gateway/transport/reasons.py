"""Why a broker cannot be reached, in the words of whoever has to mend it."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.transport.mqtt import MqttSettings

# OpenSSL's numbers of what is wrong with a certificate (x509_vfy.h).
NOT_YET_VALID, EXPIRED, OTHER_NAME = (9,), (10,), (62, 64)
# CONNACK of MQTT 3.1.1, and what paho makes of it.
BAD_CREDENTIALS = (4, 5, 134, 135)
# What our session says of a broker that hung up.
BEFORE_CONNACK = "before CONNACK"
# What a peer says that closes the connection over our certificate comes as one of these or as a plain close.
REFUSED_OURS = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "BAD_CERTIFICATE")


def reason_of(err: BaseException, settings: MqttSettings) -> str:
    """One line. ``err`` as aiomqtt raises it: what was below it stands in its context."""
    found: BaseException | None = err
    for _ in range(5):
        if isinstance(found, ssl.SSLCertVerificationError):
            return _of_certificate(found, settings)
        if isinstance(found, ssl.SSLError):
            return _of_tls(found, settings)
        found = found.__context__ if found is not None else None
    code = getattr(err, "rc", None)
    if getattr(code, "value", code) in BAD_CREDENTIALS:
        account = f"the account {settings.username!r} with its password" if settings.username else "us without account"
        return f"the broker does not take {account} ({err}); see username and password_file"
    # "[Errno 111] Connection refused": the number says nothing to an operator.
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(err)) or type(err).__name__
    if BEFORE_CONNACK in said and settings.tls is not None:
        # By TLS 1.3 a broker that does not take our certificate says so after the handshake, and hangs up.
        ours = settings.tls.certificate
        may = f"it may not take our certificate {ours}" if ours else "it may want a client certificate of us"
        return f"{said}: {may}; see cert_file and key_file"
    return said


def _of_certificate(err: ssl.SSLCertVerificationError, settings: MqttSettings) -> str:
    told = err.verify_message.rstrip(".")
    if err.verify_code in EXPIRED:
        return "the broker's certificate has expired; it needs a new one, or this machine's clock is wrong"
    if err.verify_code in NOT_YET_VALID:
        return "the broker's certificate is not valid yet; it begins later, or this machine's clock is wrong"
    if err.verify_code in OTHER_NAME:
        return f"the broker's certificate is for another name than {settings.host} ({told}); see host"
    tls = settings.tls
    ca = tls.pinned or tls.ca if tls is not None else None
    return f"the broker's certificate is not signed by {ca or 'a CA of this system'} ({told}); see ca_file"


def _of_tls(err: ssl.SSLError, settings: MqttSettings) -> str:
    told = (err.reason or str(err)).replace("_", " ").lower()
    if any(word in (err.reason or "") for word in REFUSED_OURS):
        ours = settings.tls.certificate if settings.tls is not None else None
        given = f"our certificate {ours}" if ours else "us without a client certificate"
        return f"the broker does not take {given} ({told}); see cert_file and key_file"
    return f"TLS with the broker failed ({told}); does it speak TLS on this port"
