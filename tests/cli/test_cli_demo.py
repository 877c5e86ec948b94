"""The command line as people run it: the demo, the receipts it leaves, delivering them, and the report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from array import array
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from otel_steps.cli import main
from otel_steps.cli.report_sums import Sums, add_up, percentile, two_digits_up
from otel_steps.cli.since import Since
from otel_steps.cli.terminal import count_text, tokens_text, usd_text
from otel_steps.receipts.store import Store
from otel_steps.record import CompletedStep, rfc3339

COMMAND = [sys.executable, "-W", "error::DeprecationWarning", "-c", "from otel_steps.cli import main; main()"]
EXPECTED = {
    "plan": ("completed", 1),
    "read": ("skipped", 4),
    "draft": ("completed", 1),
    "review": ("escalated", 3),
    "headline": ("failed", 1),
}


def run(*arguments: str, home: Path, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
    """One command on a machine where nothing is set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "XDG_", "COLUMNS"))}
    done = subprocess.run(
        [*COMMAND, *arguments],
        env={**kept, "HOME": str(home), "NO_PROXY": "*", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def receipt(number: int, **fields: Any) -> CompletedStep:
    cost = fields.pop("cost_nano_usd", 1_000_000)
    text = rfc3339(1_790_000_000_000_000_000 + number)
    whole: dict[str, Any] = {
        "name": "plan",
        "function": "app:plan",
        "receipt_id": f"{number:032x}",
        "started_at": text,
        "ended_at": text,
        "llm_calls": 1,
        "input_tokens": 100,
        "total_input_tokens": 100,
        "total_llm_calls": 1,
        "cost_nano_usd": cost,
        "cost_usd": cost / 1e9,
        "total_cost_nano_usd": cost,
        "total_cost_usd": cost / 1e9,
    }
    return CompletedStep(**(whole | fields))


def fill(folder: Path, *records: CompletedStep, endpoint: str | None = None) -> None:
    store = Store(folder, endpoint=endpoint)
    for record in records:
        store.completed(record)
    store.close()


def call(*arguments: str, code: int = 0, width: int = 120) -> str:
    """One command in this process."""
    done = CliRunner().invoke(main, list(arguments), env={"COLUMNS": str(width)})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


class Collector:
    """Acknowledges every request, or answers with another status."""

    def __init__(self, status: int = 200) -> None:
        outer = self
        self.requests = 0

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.requests += 1
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_demo_shows_every_boundary_and_agrees_with_the_provider(tmp_path: Path) -> None:
    done = run("demo", "--json", home=tmp_path)
    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert {r["name"]: (r["status"], r["llm_calls"]) for r in told["receipts"]} == EXPECTED
    calls = sum(count for _, count in EXPECTED.values())
    assert told["provider"]["requests"] == calls
    assert told["provider"]["requests_after_a_budget_broke"] == 0
    assert told["provider"]["agrees_with_receipts"] is True
    assert told["acknowledged"] is None
    assert {r["trace_id"] for r in told["receipts"]} == {told["trace_id"]}
    assert {r["persona"] for r in told["receipts"]} == {"researcher", "writer"}
    lines = [line for path in Path(told["journal"]).glob("*.jsonl") for line in path.read_text().splitlines()]
    journalled = [json.loads(line) for line in lines if line.startswith('{"kind":"receipt"')]
    assert [{**record, "kind": None} for record in journalled] == [{**r, "kind": None} for r in told["receipts"]]


def test_demo_is_readable_at_80_columns_and_says_what_to_do_next(tmp_path: Path) -> None:
    done = run("demo", home=tmp_path, COLUMNS="80")
    assert "\x1b[" not in done.stdout, "colours are for terminals"
    assert done.stderr == ""
    table = done.stdout.partition("step     persona")[2].partition("Journal")[0]
    assert all(len(line.rstrip()) <= 80 for line in table.splitlines())
    for name, (status, _) in EXPECTED.items():
        assert re.search(rf"^  {name} .* {status}\s*$", table, re.MULTILINE), table
    assert "0 requests after a budget broke; 4 that the agent wanted were never sent" in done.stdout
    assert "make jaeger" in done.stdout
    command = next(line for line in done.stdout.splitlines() if "jq -c" in line)
    found = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)}, check=False
    )
    if found.returncode != 127:  # jq is there
        assert [json.loads(line)[0] for line in found.stdout.splitlines()] == list(EXPECTED)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_demo_tells_truly_whether_the_collector_acknowledged(tmp_path: Path, status: int, code: int) -> None:
    with Collector(status) as endpoint:
        done = run("demo", "--endpoint", endpoint, home=tmp_path, code=code)
        assert ("acknowledged the 5 receipts" in done.stdout) is (status == 200)
        assert ("did not acknowledge the 5 receipts" in done.stdout) is (status != 200)
        assert ("/trace/" in done.stdout) is (status == 200)


def test_demo_without_the_clients_says_what_to_install(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['anthropic'] = None; sys.modules['openai'] = None; "
    done = subprocess.run(
        [sys.executable, "-c", hide + "from otel_steps.cli import main; main()", "demo"],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install openai anthropic" in done.stderr


def test_a_terminal_that_knows_no_signs_is_served_too(tmp_path: Path) -> None:
    fill(tmp_path, receipt(1, persona="modèle"))
    assert "mod?le" in run("receipts", "list", "--store", str(tmp_path), home=tmp_path, PYTHONIOENCODING="ascii").stdout


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    fill(tmp_path, *(receipt(n) for n in range(5_000)))
    command = " ".join(
        f"'{word}'" for word in (*COMMAND, "receipts", "list", "--json", "-n", "0", "--store", str(tmp_path))
    )
    done = subprocess.run(["sh", "-c", f"{command} | head -1"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["name"] == "plan"
    assert done.stderr == ""


def test_demo_prints_its_agent() -> None:
    assert "@step(model=FAST, max_usd=0.02)" in call("demo", "--source")


def test_list_shows_the_newest_in_their_latest_revision(tmp_path: Path) -> None:
    fill(tmp_path, *(receipt(n, name=f"s{n}") for n in range(30)), receipt(29, name="s29", revision=2, llm_calls=7))
    shown = [json.loads(line) for line in call("receipts", "list", "--store", str(tmp_path), "--json").splitlines()]
    assert [record["name"] for record in shown] == [f"s{n}" for n in range(10, 30)]
    assert (shown[-1]["revision"], shown[-1]["llm_calls"], shown[-1]["state"]) == (2, 7, "history")
    assert len(call("receipts", "list", "--store", str(tmp_path), "--json", "-n", "0").splitlines()) == 30
    assert "20 receipts, $0.0200" in call("receipts", "list", "--store", str(tmp_path))


def test_list_filters(tmp_path: Path) -> None:
    fill(tmp_path, receipt(1), receipt(2, status="failed", persona="p"), receipt(3, run_id="r1", trace_id="t1"))

    def names(*options: str) -> list[str]:
        out = call("receipts", "list", "--store", str(tmp_path), "--json", *options)
        return [json.loads(line)["receipt_id"][-1] for line in out.splitlines()]

    assert names("--status", "failed") == names("--persona", "p") == ["2"]
    assert names("--run", "r1") == names("--trace", "t1") == ["3"]
    assert names("--state", "history") == names("--since", "2026-01-01") == ["1", "2", "3"]
    assert names("--state", "waiting") == names("--since", "2999-01-01") == []


def test_show_tells_all_of_one(tmp_path: Path) -> None:
    fill(tmp_path, receipt(1), receipt(2, status="failed", error="it broke", max_usd=0.0005, breached=("max_usd",)))
    out = call("receipts", "show", "last", "--store", str(tmp_path))
    assert "it broke" in out
    assert "$0.0005, broken: max_usd" in out
    assert (
        json.loads(call("receipts", "show", f"{1:032x}", "--json", "--store", str(tmp_path)))["status"] == "completed"
    )
    call("receipts", "show", "0", "--store", str(tmp_path), code=1)
    call("receipts", "show", "f", "--store", str(tmp_path), code=1)


def test_a_store_that_was_named_and_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    assert "there is no folder" in call("receipts", "list", "--store", str(tmp_path / "none"), code=2)


def test_an_empty_default_store_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_STEPS_STORE", str(tmp_path / "none"))
    assert "No receipts" in call("receipts", "list")
    assert "No receipts" in call("report")


def test_ship_delivers_what_a_dead_process_left(tmp_path: Path) -> None:
    with Collector() as endpoint:
        fill(tmp_path, receipt(1), receipt(2), endpoint="http/protobuf http://127.0.0.1:1/v1/logs")
        ship = ("receipts", "ship", "--store", str(tmp_path), "--endpoint", endpoint)
        assert "nothing waits" in call(*ship)
        assert "2 receipts acknowledged" in call(*ship, "--any-endpoint")
        assert json.loads(call(*ship, "--any-endpoint", "--json"))["delivered"] == 0
    out = call("receipts", "list", "--store", str(tmp_path), "--json", "--state", "delivered")
    assert len(out.splitlines()) == 2


def test_ship_takes_history_when_asked(tmp_path: Path) -> None:
    with Collector() as endpoint:
        fill(tmp_path, receipt(1))
        out = call("receipts", "ship", "--store", str(tmp_path), "--endpoint", endpoint, "--history", "--json")
        assert json.loads(out)["delivered"] == 1


def test_ship_says_what_was_set_aside_and_sends_it_again(tmp_path: Path) -> None:
    where = ("receipts", "ship", "--store", str(tmp_path), "--any-endpoint", "--json")
    with Collector(400) as endpoint:
        fill(tmp_path, receipt(1), endpoint=f"http/protobuf {endpoint}/v1/logs")
        assert json.loads(call(*where, "--endpoint", endpoint, code=1))["set_aside"] == 1
    with Collector() as endpoint:
        assert json.loads(call(*where, "--endpoint", endpoint, "--set-aside"))["delivered"] == 1


def test_ship_gives_up_in_time_and_loses_nothing(tmp_path: Path) -> None:
    with Collector(503) as endpoint:
        fill(tmp_path, receipt(1), endpoint=f"http/protobuf {endpoint}/v1/logs")
        ship = ("receipts", "ship", "--store", str(tmp_path), "--endpoint", endpoint, "--timeout", "0.5", "--json")
        told = json.loads(call(*ship, code=1))
    assert (told["delivered"], told["waiting"], told["acknowledged"]) == (0, 1, False)


def test_ship_without_an_endpoint_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert "--endpoint" in call("receipts", "ship", "--store", str(tmp_path), code=2)
    assert "endpoint" in call("receipts", "ship", "--store", str(tmp_path), "--endpoint", "ftp://x", code=2)


def test_prune_holds_the_store_within_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, *(receipt(n) for n in range(10)))
    assert "10 receipts" in call("receipts", "prune", "--store", str(tmp_path), "--dry-run")
    for path in tmp_path.glob("*.jsonl"):
        os.utime(path, (1, 1))
    monkeypatch.setenv("OTEL_STEPS_STORE_MAX_DAYS", "1")
    told = json.loads(call("receipts", "prune", "--store", str(tmp_path), "--json"))
    assert (told["before"], told["after"]) == ({"history": 10}, {})


def test_prune_counts_the_steps_that_a_dead_process_left_open_as_receipts_that_were_there(tmp_path: Path) -> None:
    dies = (
        "import os; from otel_steps import *; step('plan').__enter__(); record_llm_usage('m', 1, 1, 0.1); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", dies], env={**os.environ, "OTEL_STEPS_STORE": str(tmp_path)}, check=True)
    told = json.loads(call("receipts", "prune", "--store", str(tmp_path), "--json"))
    assert (told["before"], told["after"]) == ({"history": 1}, {"history": 1})


def test_report_ranks_by_cost_and_suggests_a_limit(tmp_path: Path) -> None:
    plans = [receipt(n, cost_nano_usd=(n + 1) * 1_000_000, max_usd=0.0095) for n in range(9)]
    stopped = receipt(9, cost_nano_usd=10_000_000, max_usd=0.0095, breached=("max_usd",), status="failed")
    fill(tmp_path, *plans, stopped, receipt(10, name="cheap", max_tokens=50, breached=("max_tokens",)))
    told = json.loads(call("report", "--store", str(tmp_path), "--json"))["groups"]
    plan, cheap = told
    assert (plan["key"], plan["receipts"], plan["stops"], plan["cost_nano_usd"]) == ("plan", 10, 1, 55_000_000)
    assert [plan[f"{name}_cost_nano_usd"] for name in ("p50", "p95", "max")] == [5_000_000, 10_000_000, 10_000_000]
    assert plan["suggested_max_usd"] == 0.014  # half as much again as $0.009
    assert (cheap["max_tokens_limit"], cheap["suggested_max_usd"]) == (50, None)
    out = call("report", "--store", str(tmp_path))
    assert re.search(r"^plan +10 +10 +1,000 +\$0\.0550 .* \$0\.0095 +\$0\.014 +1$", out, re.MULTILINE), out


@pytest.mark.parametrize("by", ["step", "persona", "model", "run", "day"])
def test_report_by_each_key_adds_up_to_the_same(tmp_path: Path, by: str) -> None:
    fill(tmp_path, *(receipt(n, persona=f"p{n % 2}", model=f"m{n % 3}", run_id=f"r{n % 4}") for n in range(12)))
    groups = json.loads(call("report", "--store", str(tmp_path), "--by", by, "--json"))["groups"]
    assert sum(group["cost_nano_usd"] for group in groups) == 12_000_000


def test_report_counts_an_amended_receipt_once() -> None:
    records = [
        receipt(1),
        receipt(2),
        receipt(1, revision=2, cost_nano_usd=5_000_000),
        receipt(1, revision=3, llm_calls=9),
    ]
    sums = add_up(lambda: iter(records), "step")["plan"]
    assert (sums.receipts, sums.calls, sums.cost_nano_usd) == (2, 10, 2_000_000)


def test_figures_are_never_cut(tmp_path: Path) -> None:
    fill(
        tmp_path,
        receipt(1, name="a-step-with-a-name-that-is-rather-long", cost_nano_usd=1_234_567_890_000, max_usd=2000.5),
    )
    for width in (40, 60, 80):
        out = call("report", "--store", str(tmp_path), width=width) + call(
            "receipts", "list", "--store", str(tmp_path), width=width
        )
        assert out.count("$1,235") >= 2
        assert "$2000.5" in out


def test_percentiles_occurred() -> None:
    values = array("q", range(1, 101))
    assert [percentile(values, share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert percentile(array("q"), 0.5) == 0
    assert Sums().suggested_usd is None


@pytest.mark.parametrize(("value", "expected"), [(0.0135, 0.014), (0.1, 0.1), (1234.0, 1300.0), (0.00099, 0.00099)])
def test_limits_are_rounded_up(value: float, expected: float) -> None:
    assert two_digits_up(value) == expected


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [(0, "$0.0000"), (1, "<$0.000001"), (45_000, "$0.000045"), (129_200_000, "$0.1292"), (12_340_000_000, "$12.34")],
)
def test_amounts_are_told_apart_from_nothing(nano_usd: int, text: str) -> None:
    assert usd_text(nano_usd) == text


def test_counts_and_limits_of_tokens() -> None:
    assert [tokens_text(n) for n in (20_000, 1_500, 2_000_000, 7)] == ["20k", "1,500", "2M", "7"]
    assert [count_text(n) for n in (9_999_999, 24_139_176)] == ["9,999,999", "24.1M"]


def test_since_takes_ages_and_times() -> None:
    since = Since()
    assert since.convert("2026-01-31T08:00Z", None, None) == "2026-01-31T08:00"
    assert since.convert("24h", None, None) < since.convert("1s", None, None)
    assert "neither an age" in call("report", "--since", "yesterday", code=2)


def test_every_verb_has_help_with_an_example() -> None:
    for verb in ("demo", "report", "receipts list", "receipts show", "receipts ship", "receipts prune"):
        assert "Examples:" in call(*verb.split(), "--help")
    assert "Exit codes:" in call("--help")
