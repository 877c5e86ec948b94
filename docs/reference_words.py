"""The words of docs/reference that the code does not hold itself; generate.py fails where one is missing."""

from __future__ import annotations

from typing import Final

FIELDS: Final = {
    "name": "name of the step",
    "function": "`module:qualname` of the decorated function; none for a block",
    "model": "last model reported, else the declared one",
    "input_tokens": "own input, cached tokens included",
    "output_tokens": "own output, reasoning included",
    "cost_usd": "own cost in US dollars",
    "llm_calls": "own model calls, failed ones included, refused ones not",
    "status": "completed, failed, skipped, escalated, cancelled or interrupted",
    "error": "one line that says why it did not complete, at most 4 KiB",
    "schema": "version of the record's shape",
    "receipt_id": "32 hex digits, sortable by the time at which the step began; the key to remove duplicates by",
    "revision": "1, and one more each time usage arrived after the step had closed",
    "persona": "name of the persona around it",
    "run_id": "the run it belongs to",
    "trace_id": "its trace, 32 hex digits",
    "span_id": "its span, 16 hex digits",
    "parent_receipt_id": "receipt of the step around it",
    "started_at": "RFC 3339, UTC, nanoseconds",
    "ended_at": "RFC 3339, UTC, nanoseconds",
    "cost_nano_usd": "own cost, exact, in billionths of a dollar",
    "total_input_tokens": "input with everything nested in it",
    "total_output_tokens": "output with everything nested in it",
    "total_cost_usd": "cost with everything nested in it, US dollars",
    "total_cost_nano_usd": "the same, exact",
    "total_llm_calls": "model calls with everything nested in it",
    "cache_read_tokens": "of the own input, read from a cache",
    "cache_write_tokens": "of the own input, written to a cache",
    "reasoning_tokens": "of the own output, spent on reasoning",
    "max_tokens": "its own limit, tokens",
    "max_usd": "its own limit, US dollars",
    "breached": "names of its own limits that broke, the primary one first",
    "error_boundary": "fail, continue or escalate, as given",
    "unpriced_calls": "calls whose price is unknown, counted as zero",
    "unmetered_calls": "calls that ended without telling their usage",
    "invalid_costs": "reported costs that were NaN, infinite or negative, counted as zero",
    "duplicates_discarded": "second reports of a call that was counted already",
    "shared_unconsulted_calls": "calls for which the budget shared with other processes could not be asked",
    "price_source": "who priced its calls: reported, set_price, genai-prices, or mixed",
    "tools_called": "tools called through the guard or seen as execute_tool spans",
    "tools_denied": "tools that the policy denied",
    "stage": "the stage whose limits applied",
    "next_stage": "the stage that `on_exit` names for how it ended",
}

NAMES: Final = {
    "gen_ai.operation.name": "`invoke_agent`, on a persona's span",
    "gen_ai.agent.name": "the persona, on its span and on the steps under it",
    "gen_ai.tool.name": "the tool, on the event that tells of its refusal",
    "error.type": "on the span of a step that failed or escalated",
    "otel_steps.step.denied": "on the caller's span: `step`, `event`, `reason`",
    "otel_steps.tool.denied": "on the step's span: `gen_ai.tool.name`, `reason`",
    "otel_steps.budget.exceeded": "on the span of the scope whose limit broke: `limit`, `limit_value`, `message`",
    "otel_steps.handoff": "`target`, `kind`",
    "otel_steps.approval": "`what`, `answer`, `reason`",
    "otel_steps.persona.paused": "`persona`, `reason`",
    "otel_steps.persona.resumed": "`persona`, `reason`",
    "otel_steps.step.cost": "own cost of finished steps",
    "otel_steps.step.tokens": "own tokens of finished steps",
    "otel_steps.step.stops": "finished steps that broke a limit",
    "otel_steps.step.duration": "duration of finished steps",
    "otel_steps.shared.unconsulted": "calls of finished steps for which the shared budget could not be asked",
    "otel_steps.log.dropped": "receipts dropped from the log in memory",
    "otel_steps.receipts.waiting": "receipts that wait for delivery now",
    "otel_steps.receipts.delivered": "receipts acknowledged by a collector",
    "otel_steps.receipts.set_aside": "receipts that will not be sent again by themselves",
    "otel_steps.receipts.dropped": "receipts lost to a bound",
    "otel_steps.internal_errors": "faults of our own that were survived",
}

METRICS: Final = """\
The dimensions of the four `otel_steps.step.*` metrics are `name`, `persona`, `model` and `status`, where they apply;
the others have none. All go through the OpenTelemetry metrics API, to the meter provider that your program sets.
"""

RUN: Final = """\
What `r.receipt()` of a [run](#run) gives: everything that happened in it, bounded. `to_json()` makes a dict of it, as
its [JSON Schema](run-receipt.schema.json) says. Totals are inclusive.
"""

RUN_FIELDS: Final = {
    "RunReceipt": {
        "name": "name of the run",
        "run_id": "32 hex digits, on the receipts of its steps too",
        "schema": "version of the record's shape",
        "status": "running while it is open, then completed, failed or cancelled",
        "error": "one line that says why it did not complete",
        "started_at": "RFC 3339, UTC, nanoseconds",
        "ended_at": "the same; None while it is open",
        "trace_id": "its trace, 32 hex digits",
        "span_id": "its span, 16 hex digits",
        "input_tokens": "input of everything in it",
        "output_tokens": "output of everything in it",
        "cost_usd": "cost of everything in it, US dollars",
        "cost_nano_usd": "the same, exact, in billionths of a dollar",
        "llm_calls": "model calls of everything in it",
        "max_tokens": "its limit, tokens",
        "max_usd": "its limit, US dollars",
        "breached": "names of its own limits that broke",
        "steps": "its steps in the order in which they ended, refused ones too",
        "steps_dropped": "steps that were dropped from `steps`, which is bounded",
        "approvals": "requests for approval and their answers",
        "handoffs": "work handed to others",
        "pauses": "names of personas, once for each time that one was paused or resumed",
    },
    "RunStep": {
        "name": "name of the step",
        "outcome": "success, noop, failure, denied or cancelled",
        "handoff": "`escalation` where it escalated",
        "reason": "why it was denied",
        "receipt": "its CompletedStep, in the latest revision; None where it was denied",
    },
    "Approval": {
        "what": "what was asked for",
        "answer": "allowed, denied or unanswered",
        "reason": "the reason given",
        "step": "the step in which it was asked",
        "at": "RFC 3339, UTC, nanoseconds",
    },
    "Handoff": {
        "target": "to whom",
        "kind": "the kind given",
        "step": "the step in which it was emitted",
        "at": "RFC 3339, UTC, nanoseconds",
    },
}

MEMBERS: Final = {
    "Steps.clock": "The FixedClock that steps look at; `advance(seconds)` lets time pass.",
    "Account.total_input_tokens": "Input tokens of all calls.",
    "Account.total_output_tokens": "Output tokens of all calls.",
    "Account.total_cost_nano_usd": "What all calls cost, exact, in billionths of a dollar.",
    "Account.total_llm_calls": "Model calls.",
    "ToolCheck.tool": "Name of the tool.",
}

TESTING: Final = """\
What is for tests of your agent: a pytest plugin, which is there once `otel-steps` and pytest are installed, and the
names of `otel_steps.testing`, which work without pytest too. [Test your agent](../how-to/test-your-agent.md) shows
their use.
"""

PRECEDENCE: Final = """\
`configure()` wins where both say something. For receipts each `OTEL_EXPORTER_OTLP_X` below is also read as
`OTEL_EXPORTER_OTLP_LOGS_X`, which wins."""

VARIABLES: Final = {
    "OTEL_STEPS_STORE": "Folder of the journal. Set, it makes a journal even without `configure()`.",
    "OTEL_STEPS_STORE_MAX_MIB": "Size at which the oldest files of the journal go, in MiB. Default 512.",
    "OTEL_STEPS_STORE_MAX_DAYS": "Age at which files of the journal go, in days. Default 30.",
    "OTEL_STEPS_SHARED": "URL of the Redis in which processes share [budgets](../how-to/share-a-budget.md), such as "
    "`redis://localhost:6379/0`.",
    "OTEL_STEPS_SHARED_UNAVAILABLE": "Beside it: `allow` (default) or `stop` model calls while that Redis cannot be "
    "asked.",
    "OTEL_STEPS_PRICES": "Prices of your own: JSON, or the path of a JSON or TOML file, model by model with the "
    "keywords of `set_price`.",
    "OTEL_STEPS_FILE": "Path of the [steps file](steps-file.md): read by `otel-steps run`, and by the instrumentor "
    "that `opentelemetry-instrument` and declarative files load.",
    "OTEL_STEPS_MAX_USD": "Limit of a run around the whole program, in US dollars; read where the steps file is.",
    "OTEL_STEPS_MAX_TOKENS": "The same in input and output tokens together.",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "Names of instrumentations that `otel-steps run` leaves out too, "
    "separated by commas; `*` is all.",
    "OTEL_STEPS_JAEGER_UI_PORT": "Port of Jaeger in the links that `otel-steps demo` prints. Default 16686.",
    "OTEL_SDK_DISABLED": "`true`: no provider is made, so spans are neither metered nor exported. Usage reported by "
    "hand is, and its receipts are delivered.",
    "OTEL_SERVICE_NAME": "`service.name` of spans and receipts, where `configure(service_name=)` names none.",
    "OTEL_TRACES_SAMPLER": "Which spans are exported. Steps are metered whatever it says.",
    "OTEL_TRACES_SAMPLER_ARG": "Its argument, such as a share of traces.",
    "OTEL_RESOURCE_ATTRIBUTES": "Attributes of the resource; `otel-steps run` keeps a `service.name` in it.",
    "OTEL_TRACES_EXPORTER": "`none`: a provider made by `configure()` exports no spans.",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "Base URL of the receiver of spans and receipts, such as `http://127.0.0.1:4318`.",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "Full URL for receipts alone.",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "Full URL for spans alone.",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "`http/protobuf` (default) or `grpc`.",
    "OTEL_EXPORTER_OTLP_HEADERS": "`name=value,name=value`, sent along; values percent-encoded.",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "Bound of one request, in milliseconds as OpenTelemetry writes it. Default 10 s.",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "`gzip` or `none`.",
    "OTEL_EXPORTER_OTLP_INSECURE": "`true`: gRPC without TLS where the endpoint names no scheme.",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "PEM file of the authorities to trust.",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": "PEM file of the client's key.",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "PEM file of the client's certificate.",
}

SPANS: Final = """\
A step is a span of kind INTERNAL named by the step, a persona one named `invoke_agent {name}`, a run one of its name.
Model calls and tools below them are other instrumentations' spans. Each field of the receipt is the attribute
`otel_steps.` + field, with the same type everywhere:

- **on the receipt's log record** (`event_name` `otel_steps.step.completed`) each field that is not null;
- **on the step's span** each that is not at its default, not equal to its own counterpart (`total_*`), and that the
  span does not say by itself (ids, times): marked *if told* below.

No key of ours is in the `gen_ai.usage.*` namespace, so nothing that sums model calls counts a step.
"""

HOOKS: Final = """\
`@hook("PreStep", persona="research*", step="plan")` or `register_step_hook`, `register_persona_hook`. A handler takes
one mapping and is told the events below, in order of registration. While it runs, step and persona are suspended: its
own model calls are charged to nobody.

The persona is a glob (case counts; no persona is the empty text, which `*` matches), the step an exact name. The same
handler registered twice is told twice. What a handler raises leaves where it was asked; of a threshold that a span
crosses at its end, and of an escalation, it is logged instead.

Handlers may be coroutine functions: an async step, its approval and its boundary await them. In a sync step, and in
`request_approval`, which is a plain function, an async handler is a DefinitionError. Handlers of thresholds, handoffs
and pauses, for whose answer nobody waits, run beside on the loop of the task.

```python
from otel_steps import StepDenied, hook, step


@hook("PreStep", step="plan")
def shorten(told):
    goal = told["step"]["args"][0]
    return {"deny": "no goal"} if not goal else {"args": [goal[:8]]}


@hook("PostStep", step="plan")
def shout(told):
    return {"output": told["output"].upper()}


@step
def plan(goal):
    return f"how to {goal}"


print(plan("write a very long report"))
#> HOW TO WRITE A
try:
    plan("")
except StepDenied as denied:
    print(denied.reason)
    #> no goal
```
"""

EVENTS: Final = {
    "PreStep": (
        "before a step opens",
        (
            'None or `"Allow"`: goes on. A dict with `deny` or `reason`, or `{"action": "deny"}`: StepDenied. A '
            "dict with `args` (a list) or `kwargs`: rewrites the arguments. Another dict: goes on. Anything else is an "
            "error."
        ),
    ),
    "PostStep": (
        "after a step returned",
        (
            'None or `"Pass"`: keeps the output. A dict\'s first of `output`, `result`, `modify` replaces it, None '
            "included. Anything else is an error."
        ),
    ),
    "OnBudgetThreshold": (
        "once per step and threshold, at the first call that reaches it, before any stop",
        "nothing",
    ),
    "OnApprovalRequested": (
        "`approval=True`, or `request_approval(what)`",
        (
            'The first allow or deny decides. None: no opinion. True, `"Allow"`, `"Approve"`, a dict with `allow`, '
            '`approve` or `approved` true, or `{"action": "allow"}`: allowed. False, `"Deny"`, a dict with one of '
            'these false, with `deny` or `reason`, or `{"action": "deny"}`: StepDenied. Another dict: no opinion. '
            "Anything else is an error. Nobody with an opinion is ApprovalRequired."
        ),
    ),
    "OnHandoffEmitted": ("a step escalated, or `emit_handoff(target)`", "nothing"),
    "OnPersonaPaused": ("`pause_persona(name)`", "nothing"),
    "OnPersonaResumed": ("`resume_persona(name)`", "nothing"),
}

THRESHOLDS: Final = """\
`pct` of a threshold is 100 * the largest of consumed / limit, and 100 from the first spend where a limit is zero. It
matches where `pct` is at least the hook's `threshold_pct`, which may be written into the event:

```python
from otel_steps import hook, record_llm_usage, step


@hook("OnBudgetThreshold(80)")
def warn(told):
    print(f"{told['target']}: {told['pct']:.0f} % of {told['limit_name']}")
    #> plan: 90 % of max_tokens


with step("plan", max_tokens=100):
    record_llm_usage("gpt-5.4-mini", 70, 5)
    record_llm_usage("gpt-5.4-mini", 10, 5)  # here
    record_llm_usage("gpt-5.4-mini", 5, 0)
```
"""

TOLD: Final = {
    "event": "name of the event",
    "target": "`persona.step`, or the one of the two that there is",
    "persona": "name of the persona, empty where there is none",
    "step": "the step it is about",
    "step.name": "its name, empty where there is none",
    "step.function": "`module:qualname` of the decorated function; none for a block",
    "step.args": "positional arguments: PreStep, PostStep, OnApprovalRequested",
    "step.kwargs": "keyword arguments: the same",
    "output": "what the step returned: PostStep",
    "limit_name": "`max_tokens` or `max_usd`: OnBudgetThreshold",
    "limit": "the limit: OnBudgetThreshold",
    "consumed": "what has been spent of it: OnBudgetThreshold",
    "pct": "per cent: OnBudgetThreshold",
    "what": "what approval is asked for, or to whom work is handed: OnApprovalRequested, OnHandoffEmitted",
    "kind": "kind of the handoff, `escalation` for a step's own: OnHandoffEmitted",
    "reason": "the reason given: OnPersonaPaused",
}

ERRORS: Final = """\
Exactly these reach your code. Whatever else goes wrong inside the package is logged on the logger `otel_steps`,
counted in `otel_steps.internal_errors`, and changes no result.
"""

STEPS_FILE: Final = """\
A TOML file that says which functions of a program are steps and personas, so that the program is not edited. It is read
by [`otel-steps run`](command-line.md) (`--steps`), and named by `OTEL_STEPS_FILE` or by the option `steps_file` of the
instrumentor, for `opentelemetry-instrument` and for declarative configuration files.

- A function is named `package.module:function` or `package.module:Class.method`; the program itself is `__main__`, and
  goes by its own name too (`agent:plan` for `agent.py`).
- It becomes a step where it is defined, under its own decorators: what registers it or takes it as a node takes the
  step. A decorator that calls it again, such as a retry, makes a step of each attempt.
- One that the code makes a step already is given the file's definition, and what the file does not say is as decorated.
- What is bound in another way (imported from elsewhere, inherited, an object's method) is wrapped when its module has
  run.
- A key that nobody knows, or a value that would not limit what it seems to, is an error before the program starts: it
  names the file, the key, the value and what to write. A function that was never imported, or is not there, is told at
  the end.
"""

COMPLETION: Final = """\
Verbs and options are completed by the shell that is told to; in its start-up file the line holds for good:

```bash
eval "$(_OTEL_STEPS_COMPLETE=bash_source otel-steps)"  # bash
eval "$(_OTEL_STEPS_COMPLETE=zsh_source otel-steps)"   # zsh
_OTEL_STEPS_COMPLETE=fish_source otel-steps | source   # fish
```
"""

PROPAGATION: Final = (
    "What `configure(propagate=[...])` does by itself, by hand; and middleware for servers. "
    "[How to follow steps across services](../how-to/across-services.md) shows each.\n"
)
