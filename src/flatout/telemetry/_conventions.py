"""Every name in flatout's traces and metrics.

The names follow OpenTelemetry's conventions for generative AI. These are still in development, and names change between
versions. So flatout follows one version, and moves to the next only on purpose.

Source: github.com/open-telemetry/semantic-conventions-genai, schema gen-ai/1.42.0 (docs/gen-ai/gen-ai-spans.md,
gen-ai-agent-spans.md, gen-ai-metrics.md; model/gen-ai/*.yaml; gen-ai-input-messages.json). Its changelog announces
counters (``gen_ai.client.inference.tokens``) in place of ``gen_ai.client.token.usage``; they are in no version yet.
Names that the conventions do not have begin with ``flatout.``.
"""

from __future__ import annotations

from collections.abc import Mapping

SCOPE = "flatout"
"""The name under which flatout's tracer and meter report."""

SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/1.42.0"
"""The version of the conventions that the names below come from."""

CAPTURE_CONTENT_ENV = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The environment variable that asks every instrumentation to record prompts and answers."""

CAPTURE_CONTENT_VALUES = frozenset({"1", "true", "span_only", "span_and_event"})
"""The values of that variable which ask for content on spans."""

# -- operations: the first word of a span's name -----------------------------------------------------------------------

CHAT = "chat"
EXECUTE_TOOL = "execute_tool"
INVOKE_AGENT = "invoke_agent"

# -- attributes --------------------------------------------------------------------------------------------------------

ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
HTTP_STATUS = "http.response.status_code"

AGENT_NAME = "gen_ai.agent.name"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"

REQUEST_MODEL = "gen_ai.request.model"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_STOP = "gen_ai.request.stop_sequences"
REQUEST_STREAM = "gen_ai.request.stream"
OUTPUT_TYPE = "gen_ai.output.type"

RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"

USAGE_INPUT = "gen_ai.usage.input_tokens"
USAGE_OUTPUT = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - the name of an attribute, no password

SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"

TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"

CONTENT = frozenset({SYSTEM_INSTRUCTIONS, INPUT_MESSAGES, OUTPUT_MESSAGES, TOOL_ARGUMENTS, TOOL_RESULT})
"""The attributes with prompts and answers. They are recorded only on request."""

CALL_ID = "flatout.call.id"
REQUEST_ID = "flatout.request.id"
TARGET = "flatout.target"
ATTEMPT = "flatout.attempt"
ATTEMPTS = "flatout.attempts"
REASKS = "flatout.reasks"
CACHED = "flatout.cached"
COST = "flatout.cost"
OUTCOME = "flatout.outcome"
RETRY_IN = "flatout.retry_in"
WAIT_CAUSE = "flatout.wait.cause"
LIMIT_NAME = "flatout.limit.name"
WAIT_SECONDS = "flatout.wait.seconds"
STAGE = "flatout.stage"
GUARDRAIL_NAME = "flatout.guardrail.name"
GUARDRAIL_OUTCOME = "flatout.guardrail.outcome"
GUARDRAIL_REASON = "flatout.guardrail.reason"

# -- events on spans ---------------------------------------------------------------------------------------------------

EVENT_RETRY = "flatout.retry"
EVENT_ATTEMPT_FAILED = "flatout.attempt_failed"
EVENT_WAIT = "flatout.wait"
EVENT_GUARDRAIL = "flatout.guardrail"

# -- metrics -----------------------------------------------------------------------------------------------------------

DURATION = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"

METRIC_ATTEMPTS = "flatout.attempts"
METRIC_ATTEMPT_DURATION = "flatout.attempt.duration"
METRIC_QUEUE_DURATION = "flatout.queue.duration"
METRIC_RETRIES = "flatout.retries"
METRIC_WAITED = "flatout.wait.time"
METRIC_COST = "flatout.cost"
METRIC_UNPRICED = "flatout.cost.unknown"
METRIC_IN_FLIGHT = "flatout.in_flight"
METRIC_WAITING = "flatout.waiting"
METRIC_LIMIT = "flatout.limit"

SECONDS_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The conventions' histogram buckets for durations and for the time to the first chunk, in seconds."""

QUEUE_BUCKETS = (*SECONDS_BUCKETS, *(SECONDS_BUCKETS[-1] * 2**power for power in range(1, 11)))
"""Where a limit holds a run, its calls wait for hours: the last of these is nearly a day, in seconds."""

TOKENS_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""The conventions' histogram buckets for counts of tokens."""

# -- values ------------------------------------------------------------------------------------------------------------

ANSWERED = "answered"

_PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "openai-responses": "openai",
    "xai": "x_ai",
}
"""The conventions' names of providers, if flatout's name is another."""


def target_attributes(target: str) -> dict[str, str | int]:
    """The provider, model and server in the name of a target, such as ``openai/gpt-5-mini`` or ``localhost:8000/any``.

    An endpoint that the conventions do not know keeps its own name, which they allow.
    """
    endpoint, _, model = target.partition("/")
    known: dict[str, str | int] = {PROVIDER: _PROVIDERS.get(endpoint, endpoint)}
    if model:
        known[REQUEST_MODEL] = model
    host, _, port = endpoint.rpartition(":")
    if host and port.isdecimal():  # with `base_url=`, the endpoint is named after the server
        known[SERVER_ADDRESS] = host
        known[SERVER_PORT] = int(port)
    return known
