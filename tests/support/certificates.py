"""A certificate authority of one's own, made with the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.process import tool

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """``ca.pem`` in a directory of its own, and what it signs: ``<name>.pem`` with ``<name>.key`` beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.pem"
        directory.mkdir(parents=True)
        self._openssl("req", "-x509", *KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
        (directory / "san").write_text("subjectAltName=IP:127.0.0.1\n")

    def sign(self, name: str, days: int = 2) -> tuple[Path, Path]:
        """Certificate and key for 127.0.0.1. With 0 days it is over one second after it was made."""
        self._openssl("req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days), "-extfile", "san")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        key.chmod(0o600)
        return certificate, key

    def _openssl(self, *arguments: str) -> None:
        subprocess.run([tool("openssl"), *arguments], cwd=self.directory, check=True, capture_output=True)


def listener(authority: Authority, server: str = "server") -> str:
    """A broker's lines: TLS with that certificate, and who comes needs one of the same authority."""
    where = authority.directory
    return (
        f"cafile {authority.ca}\ncertfile {where}/{server}.pem\nkeyfile {where}/{server}.key\n"
        "require_certificate true\n"
    )
