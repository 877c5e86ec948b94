"""Runs a command with a scripted model on this machine in place of OpenAI and Anthropic: no key, no network, no cost.

    python scripted_model.py python openai_client.py "May I return sale shoes?" "Tell me everything."

The model plans, searches once and answers. Whoever asks for everything gets one that searches again and again, at
32,000 tokens a call. In the end the provider's own log, a JSON object a call, goes to standard error.
"""

import json
import os
import subprocess
import sys

from otel_steps.testing import Reply, Request, ScriptedProvider, ToolCall

FOUND = "exchanged, and are not refunded"
QUIET = {"OPENAI_AGENTS_DISABLE_TRACING": "true", "CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}


def reply(request: Request) -> Reply:
    """A plan where there are no tools, then a search, and once something was found the answer."""
    asked = json.dumps(request.body)
    if not request.body.get("tools"):
        return Reply("sale", input_tokens=1_200, output_tokens=100)
    if "everything" in asked:
        return Reply(tool_calls=[ToolCall("search", {"words": "sale"})], input_tokens=30_000, output_tokens=2_000)
    if FOUND not in asked:
        return Reply(tool_calls=[ToolCall("search", {"words": "sale"})], input_tokens=1_300, output_tokens=20)
    return Reply(f"Sale items can be {FOUND}.", input_tokens=1_500, output_tokens=40)


def main(command: list[str]) -> int:
    """Run the command; its exit code."""
    if not command:
        print(__doc__)
        return 0
    with ScriptedProvider(reply) as provider:
        done = subprocess.run(command, env=os.environ | QUIET | provider.environment, check=False)
        for request in provider.requests:
            tokens = {"input_tokens": request.input_tokens, "output_tokens": request.output_tokens}
            print(json.dumps({"path": request.path, "model": request.model, **tokens}), file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
