"""What the tests of a fleet share: certificate and token, a backend that takes OTLP, and an agent's machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.fleet.collectors import Secrets, make_secrets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    """A certificate and a token of this test's own."""
    return make_secrets(tmp_path / "secrets")


@pytest.fixture
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of who runs the tests reaches otel_steps; its spans go nowhere."""
    for name in os.environ:
        # The two win over the certificate that the SDK's exporter is given.
        if name.startswith("OTEL_") or name in {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "5000")
