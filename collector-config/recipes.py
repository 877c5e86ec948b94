"""What build.py builds: each program, its version, and the command that makes it from its manifests."""

from __future__ import annotations

from dataclasses import dataclass

BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.161.0"
JAEGER_MODULE = "github.com/jaegertracing/jaeger"
VICTORIA = "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics@v1.151.0"


@dataclass(frozen=True)
class Recipe:
    """How a program is built: `manifests` are copied into an empty folder, `command` runs there and leaves `output`.

    `needs` is what builds it: Go, or Maven. `cost` tells a person what the first build takes.
    """

    name: str
    version: str
    manifests: tuple[str, ...]
    command: tuple[str, ...]
    output: str
    config: str = ""
    note: str = ""
    needs: str = "go"
    cost: str = "3 to 10 minutes and about 3 GB of Go's caches"


COLLECTOR = Recipe(
    name="collector",
    version="0.161.0",
    manifests=("builder.yaml",),
    command=("go", "run", BUILDER, "--config=builder.yaml"),
    output="source/otelcol-steps",
    config="dev.yaml",
    note="Applications send OTLP here: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 (or your port)",
)
JAEGER = Recipe(
    name="jaeger",
    version="2.13.0",
    manifests=("jaeger/go.mod", "jaeger/go.sum"),
    # `go install` refuses a module with replace directives, hence a module of our own; readonly holds it to its go.sum.
    command=(
        *("go", "build", "-C=jaeger", "-mod=readonly", "-trimpath", "-o=jaeger"),
        f"-ldflags=-s -w -X {JAEGER_MODULE}/internal/version.latestVersion=v2.13.0",
        f"{JAEGER_MODULE}/cmd/jaeger",
    ),
    output="jaeger/jaeger",
    config="jaeger.yaml",
    note="Built from source it serves its API without the web pages; for those see collector-config/README.md",
)
VICTORIA_METRICS = Recipe(
    name="victoria-metrics",
    version="1.151.0",
    manifests=(),
    # `go install` puts it where GOBIN says, which must be an absolute path.
    command=("sh", "-c", f'GOBIN="$PWD" exec go install -trimpath {VICTORIA}'),
    output="victoria-metrics",
    cost="less than a minute",
)
KAFKA = Recipe(
    name="kafka",
    version="4.3.1",
    manifests=("kafka/pom.xml",),
    command=("mvn", "-B", "-q", "-f", "kafka/pom.xml", "dependency:copy-dependencies", "-DoutputDirectory=../jars"),
    output="jars",
    needs="mvn",
    cost="less than a minute and 50 MB",
)
RECIPES = {recipe.name: recipe for recipe in (COLLECTOR, JAEGER, VICTORIA_METRICS, KAFKA)}
DEVELOPMENT = (COLLECTOR, JAEGER)
"""What `all` builds, and what `run` runs; the rest serves fleet/ and is built when it is asked for."""
