#!/usr/bin/env python3
"""Run a fleet on this machine without a container engine, all on loopback: run.py [--kafka] [--folder FOLDER]

Starts the Collector, Jaeger, Redis and VictoriaMetrics, prints where they are, and ends them all on Ctrl-C. As it is
the Collector is dev.yaml: no TLS, receipts in a file. With --kafka it is gateway.yaml with a certificate and a token of
this machine's own, receipts go into a Kafka broker, and consumer.yaml carries them to ClickHouse if
OTEL_STEPS_CLICKHOUSE names one. What is not built yet is built first (build.py). FOLDER keeps files and logs; the
default is in your state folder.

Standard library only. Exit codes: 0 ended by Ctrl-C or SIGTERM, 1 something failed, 3 Go, Maven, Java or redis-server
is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.dont_write_bytecode = True  # nothing is written beside the manifests
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builds import HERE, BuildError, ToolMissingError, build, say, settings, state_folder, stop  # noqa: E402
from fleet import dev_secrets  # noqa: E402
from fleet.programs import Program, StartError, run_all  # noqa: E402
from recipes import COLLECTOR, JAEGER, KAFKA, VICTORIA_METRICS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

PORTS = {
    "OTEL_STEPS_REDIS_PORT": "6379",
    "OTEL_STEPS_METRICS_PORT": "8428",
    "OTEL_STEPS_KAFKA_PORT": "9092",
    "OTEL_STEPS_CONSUMER_HEALTH_PORT": "13134",
    "OTEL_STEPS_CONSUMER_TELEMETRY_PORT": "8887",
}
"""What run.py alone reads; the rest is in the configurations."""
SCRAPE = """\
global: {{scrape_interval: 5s}}
scrape_configs:
  - job_name: otel_steps
    honor_labels: true
    static_configs: [{{targets: ["{metrics}"]}}]
  - job_name: otel_collector
    static_configs: [{{targets: [{own}]}}]
"""


class Settings:
    """Environment variables with the defaults of the configurations."""

    def __init__(self) -> None:
        self._defaults = dict(PORTS)
        for config in ("dev.yaml", "jaeger.yaml", "consumer.yaml", "gateway.yaml"):
            self._defaults |= settings(HERE / config)

    def __getitem__(self, name: str) -> str:
        return os.environ.get(name, self._defaults[name])

    def at(self, name: str) -> str:
        """Host and port on loopback of a variable that names a port."""
        return f"127.0.0.1:{self[name]}"


def redis(read: Settings, folder: Path) -> Program:
    """Redis for shared budgets, with every write on the disk before it answers. Raises ToolMissingError."""
    server = shutil.which("redis-server")
    if server is None:
        raise ToolMissingError("No redis-server found: install Redis 6.2 or newer, or Valkey under that name")
    data = folder / "redis"
    data.mkdir(exist_ok=True)
    options = (
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--dir",
        str(data),
    )
    return Program(
        "redis", (server, "--port", read["OTEL_STEPS_REDIS_PORT"], *options), port=read["OTEL_STEPS_REDIS_PORT"]
    )


def victoria_metrics(read: Settings, folder: Path, *, kafka: bool) -> Program:
    """VictoriaMetrics, which scrapes the Collectors."""
    own = [read["OTEL_STEPS_COLLECTOR_TELEMETRY_PORT"]]
    if kafka:
        own.append(read["OTEL_STEPS_CONSUMER_TELEMETRY_PORT"])
    scrape = folder / "scrape.yaml"
    targets = ", ".join(f'"127.0.0.1:{port}"' for port in own)
    scrape.write_text(SCRAPE.format(metrics=read.at("OTEL_STEPS_COLLECTOR_PROMETHEUS_PORT"), own=targets))
    command = (
        *(str(build(VICTORIA_METRICS)), f"-storageDataPath={folder / 'metrics'}", f"-promscrape.config={scrape}"),
        *(f"-httpListenAddr={read.at('OTEL_STEPS_METRICS_PORT')}", "-retentionPeriod=7d", "-search.latencyOffset=0s"),
    )
    return Program("victoria-metrics", command, port=read["OTEL_STEPS_METRICS_PORT"])


def jaeger(read: Settings) -> Program:
    """Jaeger, traces in memory."""
    command = (str(build(JAEGER)), f"--config={HERE / 'jaeger.yaml'}")
    return Program("jaeger", command, port=read["OTEL_STEPS_JAEGER_OTLP_HTTP_PORT"])


def collector(read: Settings, folder: Path) -> Program:
    """The Collector of dev.yaml."""
    env = {
        "OTEL_STEPS_COLLECTOR_JAEGER": f"http://{read.at('OTEL_STEPS_JAEGER_OTLP_HTTP_PORT')}",
        "OTEL_STEPS_COLLECTOR_RECEIPTS": str(folder / "receipts.jsonl"),
    }
    command = (str(build(COLLECTOR)), f"--config={HERE / 'dev.yaml'}")
    return Program("collector", command, port=read["OTEL_STEPS_COLLECTOR_HTTP_PORT"], env=env)


def gateway(read: Settings, folder: Path) -> Program:
    """The Collector of gateway.yaml, with the certificate and the token of this machine."""
    made = dev_secrets.make(folder / "secrets")
    env = {
        "OTEL_STEPS_COLLECTOR_JAEGER": f"http://{read.at('OTEL_STEPS_JAEGER_OTLP_HTTP_PORT')}",
        "OTEL_STEPS_GATEWAY_CERT": str(made.certificate),
        "OTEL_STEPS_GATEWAY_KEY": str(made.key),
        "OTEL_STEPS_GATEWAY_TOKENS": str(made.tokens),
        "OTEL_STEPS_GATEWAY_QUEUE": str(folder / "queue"),
        "OTEL_STEPS_KAFKA": read.at("OTEL_STEPS_KAFKA_PORT"),
    }
    metrics = HERE / "metrics" / "receipts-to-metrics.yaml"
    command = (str(build(COLLECTOR)), f"--config={HERE / 'gateway.yaml'}", f"--config={metrics}")
    return Program("gateway", command, port=read["OTEL_STEPS_COLLECTOR_HTTP_PORT"], env=env)


def broker(read: Settings, folder: Path) -> Program:
    """Kafka of one node."""
    build(KAFKA)
    script = Path(__file__).with_name("broker.py")
    port = read["OTEL_STEPS_KAFKA_PORT"]
    return Program("kafka", (sys.executable, str(script), str(folder / "kafka"), "--port", port), port=port)


def consumer(read: Settings) -> Program:
    """The Collector of consumer.yaml."""
    env = {
        "OTEL_STEPS_KAFKA": read.at("OTEL_STEPS_KAFKA_PORT"),
        "OTEL_STEPS_COLLECTOR_HEALTH_PORT": read["OTEL_STEPS_CONSUMER_HEALTH_PORT"],
        "OTEL_STEPS_COLLECTOR_TELEMETRY_PORT": read["OTEL_STEPS_CONSUMER_TELEMETRY_PORT"],
    }
    command = (str(build(COLLECTOR)), f"--config={HERE / 'consumer.yaml'}")
    return Program("consumer", command, port=read["OTEL_STEPS_CONSUMER_HEALTH_PORT"], env=env)


def guide(read: Settings, folder: Path, *, kafka: bool) -> str:
    """Where everything is, and what an application sets."""
    endpoint = f"http{'s' if kafka else ''}://{read.at('OTEL_STEPS_COLLECTOR_HTTP_PORT')}"
    lines = [
        "The fleet runs; Ctrl-C ends it. An application sets:",
        f"  export OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}",
    ]
    if kafka:
        lines += [
            f"  export OTEL_EXPORTER_OTLP_CERTIFICATE={folder / 'secrets' / 'server.pem'}",
            f'  export OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20$(cat {folder / "secrets" / "token"})"',
        ]
    lines += [
        f"and for shared budgets configure(shared='redis://{read.at('OTEL_STEPS_REDIS_PORT')}/0').",
        f"  Jaeger's API        http://{read.at('OTEL_STEPS_JAEGER_UI_PORT')}",
        f"  metrics, PromQL     http://{read.at('OTEL_STEPS_METRICS_PORT')}/vmui",
    ]
    if not kafka:
        lines.append(f"  receipts            {folder / 'receipts.jsonl'}")
    elif "OTEL_STEPS_CLICKHOUSE" in os.environ:
        lines.append(
            f"  receipts            {read.at('OTEL_STEPS_KAFKA_PORT')} -> {os.environ['OTEL_STEPS_CLICKHOUSE']}"
        )
    else:
        lines.append(
            f"  receipts            in Kafka at {read.at('OTEL_STEPS_KAFKA_PORT')}, until OTEL_STEPS_CLICKHOUSE is set"
        )
    return "\n".join([*lines, f"  logs                {folder}/*.log"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until it is ended; the exit code."""
    parser = argparse.ArgumentParser(description="Run a fleet on this machine.")
    parser.add_argument("--kafka", action="store_true", help="gateway with TLS and token, Kafka, consumer")
    parser.add_argument(
        "--folder", type=Path, default=state_folder().parent / "fleet", help="where files and logs are kept"
    )
    parsed = parser.parse_args(arguments)
    folder: Path = parsed.folder.absolute()
    signal.signal(signal.SIGTERM, stop)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        read = Settings()
        programs = [redis(read, folder), jaeger(read)]
        if parsed.kafka:
            programs += [broker(read, folder), gateway(read, folder)]
            if "OTEL_STEPS_CLICKHOUSE" in os.environ:
                programs.append(consumer(read))
        else:
            programs.append(collector(read, folder))
        programs.append(victoria_metrics(read, folder, kafka=parsed.kafka))
        run_all(programs, folder, lambda: print(guide(read, folder, kafka=parsed.kafka), flush=True))
    except StartError as error:
        say(str(error))
        return 1
    except BuildError as error:
        say(str(error))
        return error.exit_code
    except (KeyboardInterrupt, SystemExit):
        say("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
