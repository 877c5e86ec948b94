#!/usr/bin/env python3
"""Make a certificate and a token for a gateway of one's own machine, where they are missing.

    dev_secrets.py FOLDER [NAME...]

Writes into FOLDER: `server.pem` (what clients trust, too), `server.key`, `tokens` (the gateway's list) and `token` (the
one in it, of the tenant `dev`). NAMEs are further host names of the certificate. Needs the `openssl` command. For a
real fleet take certificates of your own authority and a token for each tenant, as docs/how-to/collectors.md says.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DAYS = 365


@dataclass(frozen=True)
class DevSecrets:
    """Where they lie."""

    certificate: Path
    key: Path
    tokens: Path
    token: Path


def make(folder: Path, names: Sequence[str] = ()) -> DevSecrets:
    """Make what is missing, readable for its owner alone. Raises OSError, CalledProcessError with openssl's words."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = DevSecrets(folder / "server.pem", folder / "server.key", folder / "tokens", folder / "token")
    if not (made.certificate.exists() and made.key.exists()):
        hosts = ",".join(f"DNS:{name}" for name in ("localhost", *names))
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-days", str(DAYS), "-subj", "/CN=otel-steps development"),
                *("-addext", f"subjectAltName={hosts},IP:127.0.0.1"),
                *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),  # it signs itself
                *("-keyout", str(made.key), "-out", str(made.certificate)),
            ],
            check=True,
            capture_output=True,
        )
        made.key.chmod(0o600)
    if not (made.tokens.exists() and made.token.exists()):
        token = f"dev.{secrets.token_urlsafe(32)}"
        write_private(made.tokens, f"{token} of this machine\n")
        write_private(made.token, token)
    return made


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(make(Path(arguments[0]), arguments[1:]).certificate)
    except subprocess.CalledProcessError as error:
        print(error.stderr.decode(errors="replace"), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
