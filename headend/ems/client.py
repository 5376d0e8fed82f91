"""A script's way to a running EMS: its API, with the token that the EMS made. Standard library only."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gateway.errors import OperatorError, TransientError
from headend.ems.settings import EmsSettings
from headend.ems.state_files import ENDPOINT_FILE, TOKEN_FILE, read_token

# A local API answers in milliseconds; a database under load may take a second.
TIMEOUT_S = 15.0


class EmsClient:
    """Found by the state folder: address and token lie there."""

    def __init__(self, state_dir: str = "", url: str = "") -> None:
        state = EmsSettings(state_dir=state_dir).state
        self._token = read_token(state / TOKEN_FILE)
        self._tls: ssl.SSLContext | None = None
        ca = ""
        if not url:
            endpoint = state / ENDPOINT_FILE
            try:
                told = json.loads(endpoint.read_text(encoding="utf-8"))
                url, ca = told["url"], told["ca"]
            except (OSError, ValueError, KeyError) as err:
                raise TransientError(f"no EMS is running with state folder {state}; start it: smartema ems") from err
        elif "://" not in url:
            url = f"http://{url}"
        if url.startswith("https:"):
            self._tls = _trust(Path(ca)) if ca and Path(ca).is_file() else ssl.create_default_context()
        self.url = url.rstrip("/")

    def get(self, path: str, **query: Any) -> Any:
        """Raise ``OperatorError`` for what the EMS refuses, ``TransientError`` when it is not there."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.ask("GET", f"{path}?{urlencode(given, doseq=True)}" if given else path)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The same, with a JSON body."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {self._token}"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"{self.url}/api/v1{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._tls) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as err:
            raise _refusal(err) from None
        except (urllib.error.URLError, OSError, ValueError) as err:
            reason = getattr(err, "reason", err)
            raise TransientError(f"EMS at {self.url}: {reason}") from None


def _trust(certificate: Path) -> ssl.SSLContext:
    """Exactly this certificate, whoever signed it and whatever name it bears: the EMS's own, told by its folder."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def _refusal(err: urllib.error.HTTPError) -> OperatorError | TransientError:
    try:
        told = json.load(err)
        fields = [f"{field}: {text}" for field, text in told["fields"].items()]
        text = "; ".join(fields) or str(told["error"])
    except (ValueError, KeyError, AttributeError, TypeError, OSError):
        text = f"HTTP {err.code}"
    return TransientError(text) if err.code >= 500 or err.code == 409 else OperatorError(text)
