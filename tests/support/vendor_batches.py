"""Our requests about batches against the vendors' own Python packages, which are made from their descriptions.

It is for those whose description is in no package: Mistral, Together, OpenRouter, Fireworks, xAI; and Groq. Azure's
description has no batches, and its package is OpenAI's.

Run it as ``python vendor_batches.py``: it prints what is wrong with each vendor's, as JSON; null if nothing is.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from pydantic import ConfigDict, TypeAdapter, with_config

from flatout.lanes.batch.format import BatchFormat, Line
from flatout.lanes.offers import batch_format
from flatout.layer import Request
from flatout.providers import registry
from flatout.values import Target

LINES = [Line(f"flatout-0-{index}", b'{"messages":[{"role":"user","content":"x"}]}') for index in range(2)]


def made(name: str) -> BatchFormat:
    return batch_format(Target(replace(registry.find(name), account="mine"), "m"))


def body(request: Request) -> Any:
    return json.loads(request.body)


def closed(typed: Any) -> TypeAdapter[Any]:
    """A typed dict that takes no other fields."""
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(typed))


def paths_in(module: str) -> set[str]:
    """The paths that a module of a package asks for, without the names in them."""
    text = Path(import_module(module).__file__ or "").read_text()
    return {re.sub(r"\{\w+\}", "*", path) for path in re.findall(r'"(/(?:v1|batches)[^"]*)"', text)}


def mistral() -> None:
    models = import_module("mistralai.client.models")
    for file in (None, "f"):
        asked = body(made("mistral").create("s", LINES, file))
        read = models.CreateBatchJobRequest.model_validate(asked)
        assert asked.keys() <= models.CreateBatchJobRequest.model_fields.keys()
        assert json.loads(read.model_dump_json(exclude_unset=True)) == asked
    assert {"/v1/batch/jobs", "/v1/batch/jobs/*", "/v1/batch/jobs/*/cancel"} <= paths_in("mistralai.client.jobs")
    assert {"/v1/files", "/v1/files/*", "/v1/files/*/content"} <= paths_in("mistralai.client.files")


def together() -> None:
    params = import_module("together.types.batch_create_params").BatchCreateParams
    closed(params).validate_python(body(made("together").create("s", LINES, "f")))
    assert {"/v1/batches", "/v1/batches/*", "/v1/batches/*/cancel"} <= {
        path.replace("{id}", "*") for path in paths_in("together.resources.batches")
    }


def groq() -> None:
    params = import_module("groq.types.batch_create_params").BatchCreateParams
    closed(params).validate_python(body(made("groq").create("s", LINES, "f")))


def openrouter() -> None:
    components = import_module("openrouter.components")
    asked = body(made("openrouter").create("s", LINES, None))
    components.BatchSubmitBody.model_validate(asked)
    assert asked.keys() <= components.BatchSubmitBody.model_fields.keys()
    assert asked["endpoint"] == "/v1/chat/completions"
    assert {"/batches", "/batches/*"} <= paths_in("openrouter.batch")


def fireworks() -> None:
    params = import_module("fireworks.types.batch_inference_job_create_params").BatchInferenceJobCreateParams
    aliases = {re.sub(r"_(\w)", lambda found: found[1].upper(), name): name for name in params.__annotations__}
    asked = body(made("fireworks").create("s", LINES, "f"))
    assert asked.keys() <= aliases.keys()


def xai() -> None:
    batches = import_module("xai_sdk.proto.v6.batch_pb2")
    from google.protobuf.json_format import ParseDict

    asked = body(made("xai").create("s", LINES, "f"))
    read = ParseDict(asked, batches.CreateBatchRequest())
    assert (read.name, read.input_file_id) == ("s", "f")
    described = {field.name for field in batches.Batch.DESCRIPTOR.fields}
    assert {"batch_id", "name", "state", "input_file_id", "cancel_by_xai_message"} <= described
    states = {field.name for field in batches.BatchState.DESCRIPTOR.fields}
    assert {"num_requests", "num_pending", "num_success", "num_error", "num_cancelled"} <= states


def fault(check: Callable[[], None]) -> str | None:
    """What is wrong with a vendor's; None if nothing is."""
    try:
        check()
    except Exception:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    told = {each.__name__: fault(each) for each in (mistral, together, groq, openrouter, fireworks, xai)}
    print(json.dumps(told))  # noqa: T201 - a program
