"""The vendors' SDKs as clients of a gateway, whose address is given. Prints what came of it, as JSON."""

from __future__ import annotations

import json
import sys
import time

import anthropic
import openai

URL = sys.argv[1]
ASK = [{"role": "user", "content": "Spam or ham?"}]
ROWS = "".join(
    json.dumps(
        {
            "custom_id": f"{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "any", "messages": ASK},
        }
    )
    + "\n"
    for n in range(3)
).encode()


def main() -> None:
    ai = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
    claude = anthropic.Anthropic(base_url=URL.removesuffix("/v1"), api_key="none", max_retries=0)
    told: dict[str, object] = {}
    told["chat"] = bool(ai.chat.completions.create(model="any", messages=ASK).choices[0].message.content)
    chunks = ai.chat.completions.create(model="any", messages=ASK, stream=True)
    told["stream"] = len("".join(each.choices[0].delta.content or "" for each in chunks if each.choices)) > 10
    told["parse_responses"] = bool(ai.responses.create(model="any", input="Spam or ham?").output_text)
    events = [each.type for each in ai.responses.create(model="any", input="Spam or ham?", stream=True)]
    told["responses_stream"] = events[-1] == "response.completed"
    told["embeddings"] = len(ai.embeddings.create(model="any", input="a").data[0].embedding) > 1
    told["models"] = [each.id for each in ai.models.list()]
    file = ai.files.create(file=("rows.jsonl", ROWS), purpose="batch")
    batch = ai.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while batch.status in ("validating", "in_progress", "finalizing"):
        time.sleep(0.1)
        batch = ai.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert batch.output_file_id is not None
    told["batch"] = batch.request_counts.model_dump()
    told["lines"] = len(ai.files.content(batch.output_file_id).text.splitlines())
    message = claude.messages.create(model="any", max_tokens=50, messages=ASK)
    told["messages"] = bool(message.content[0].text)
    with claude.messages.stream(model="any", max_tokens=50, messages=ASK) as stream:
        told["messages_stream"] = len("".join(stream.text_stream)) > 10
    try:
        ai.chat.completions.create(model="another", messages=ASK)
    except openai.APIStatusError as error:
        told["refused"] = type(error).__name__
    try:
        claude.messages.create(model="any", max_tokens=50, messages=ASK, extra_headers={"x-flatout-deadline": "soon"})
    except anthropic.APIStatusError as error:
        told["refused_anthropic"] = type(error).__name__
    sys.stdout.write(json.dumps(told))


main()
