"""An authority of its own for a deployment, and a certificate for each node; made by `openssl`, as SECURITY.md says."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.failure import Failure
from tools.services.node import Node

DAYS = "2"


@dataclass(frozen=True)
class Authority:
    """Whose word the workers of a deployment believe."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """Its own."""
        return self.folder / "ca.pem"

    def arguments(self, node: Node) -> list[str]:
        """What makes a worker on `node` speak TLS with others: a certificate for its address, and the key."""
        certificate, key = self.folder / f"{node.name}.pem", self.folder / f"{node.name}.key"
        request, extensions = self.folder / f"{node.name}.csr", self.folder / f"{node.name}.ext"
        extensions.write_text(f"subjectAltName=IP:{node.host}\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", "-newkey", "ec", *CURVE, "-nodes", "-subj", f"/CN={node.name}", "-keyout", key, "-out", request)
        openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / "ca.key",
            "-CAcreateserial", "-days", DAYS, "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return [
            "--tls_ca", str(self.certificate),
            "--tls_cert", str(certificate),
            "--tls_key", str(key),
        ]  # fmt: skip


CURVE = ("-pkeyopt", "ec_paramgen_curve:prime256v1")


def make_authority(folder: Path) -> Authority:
    """A fresh one, with its files in `folder`."""
    if shutil.which("openssl") is None:
        raise Failure("`openssl` is not on PATH", "Debian and Ubuntu: apt-get install openssl")
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder)
    openssl(
        "req", "-x509", "-newkey", "ec", *CURVE, "-nodes", "-days", DAYS, "-subj", "/CN=chariot bench",
        "-keyout", folder / "ca.key", "-out", authority.certificate,
    )  # fmt: skip
    return authority


def openssl(*words: str | Path) -> None:
    """Runs it; it must succeed."""
    result = subprocess.run(["openssl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Failure(f"`openssl {words[0]}` failed: {result.stderr.strip()}")
