"""The Collectors of a fleet for the tests: gateway, agent and consumer, each from its file in collector-config/."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from tests.collector.servers import CONFIGS, CollectorServer, clean_environment, started

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from google.protobuf.message import Message


@dataclass(frozen=True)
class Secrets:
    """The files that dev_secrets.py makes."""

    folder: Path

    @property
    def certificate(self) -> str:
        """What clients trust."""
        return str(self.folder / "server.pem")

    @property
    def token(self) -> str:
        """A token that the gateway takes."""
        return (self.folder / "token").read_text(encoding="utf-8")

    def allow(self, *tokens: str) -> None:
        """Let the gateway take these, beside its own."""
        lines = [self.token, *tokens]
        (self.folder / "tokens").write_text("".join(f"{line} of a test\n" for line in lines), encoding="utf-8")


def make_secrets(folder: Path) -> Secrets:
    """A certificate and a token, by the script that people use."""
    script = CONFIGS / "fleet" / "dev_secrets.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True, env=clean_environment())
    return Secrets(folder)


class Gateway(CollectorServer):
    """gateway.yaml; its endpoints are https."""

    def __init__(self, secrets: Secrets, env: Mapping[str, str], folder: Path) -> None:
        self.secrets = secrets
        own = {
            "OTEL_STEPS_GATEWAY_CERT": secrets.certificate,
            "OTEL_STEPS_GATEWAY_KEY": str(secrets.folder / "server.key"),
            "OTEL_STEPS_GATEWAY_TOKENS": str(secrets.folder / "tokens"),
            "OTEL_STEPS_GATEWAY_QUEUE": str(folder / "queue"),
            "OTEL_STEPS_GATEWAY_TRACE_WAIT": "1s",
        }
        super().__init__(CONFIGS / "gateway.yaml", {**own, **env}, folder)
        self.http_endpoint = f"https://127.0.0.1:{self.http_port}"
        self.grpc_endpoint = f"https://127.0.0.1:{self.grpc_port}"

    def post(self, signal: str, request: Message, *headers: tuple[str, str]) -> bytes:
        """Send it once over HTTP; the answer's body. Raises urllib.error.HTTPError where it is refused."""
        post = urllib.request.Request(f"{self.http_endpoint}/v1/{signal}", data=request.SerializeToString())
        for name, value in (("Content-Type", "application/x-protobuf"), *headers):
            post.add_header(name, value)
        context = ssl.create_default_context(cafile=self.secrets.certificate)
        with urllib.request.urlopen(post, timeout=20, context=context) as response:
            body: bytes = response.read()
            return body

    def send_logs(self, request: Message, token: str | None = None) -> ExportLogsServiceResponse:
        """Send log records with a token, its own if none is given."""
        answer = ExportLogsServiceResponse()
        answer.ParseFromString(self.post("logs", request, ("Authorization", f"Bearer {token or self.secrets.token}")))
        return answer


@contextlib.contextmanager
def gateway(folder: Path, secrets: Secrets, env: Mapping[str, str] | None = None) -> Generator[Gateway, None, None]:
    """A running gateway, its queue in `folder`; `env` wins."""
    folder.mkdir(exist_ok=True)
    server = started(lambda: Gateway(secrets, env or {}, folder))
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def other(folder: Path, config: str, env: Mapping[str, str]) -> Generator[CollectorServer, None, None]:
    """A running agent.yaml or consumer.yaml, its files in `folder`."""
    folder.mkdir(exist_ok=True)
    server = started(lambda: CollectorServer(CONFIGS / config, env, folder))
    try:
        yield server
    finally:
        server.kill()
