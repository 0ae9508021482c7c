"""Many calls of OpenAI's SDK to a gateway that may be killed and started again. Says how many were answered."""

from __future__ import annotations

import asyncio
import json
import sys

import openai


async def main(url: str, calls: int) -> dict[str, int]:
    turns = asyncio.Semaphore(30)
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=30, timeout=30) as ai:

        async def one(number: int) -> bool:
            async with turns:
                reply = await ai.chat.completions.create(
                    model="any", messages=[{"role": "user", "content": "Spam or ham?"}], user=f"call-{number}"
                )
            return bool(reply.choices[0].message.content)

        done = await asyncio.gather(*map(one, range(calls)), return_exceptions=True)
    answered = sum(each is True for each in done)
    return {"answered": answered, "failed": len(done) - answered}


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
