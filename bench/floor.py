"""The floor: a bare script with the `openai` SDK, run as a process of its own so that its CPU is nobody else's.

Prints one JSON object: seconds to the first token (each of the rounds, idle), CPU seconds per 1,000 tokens for one
stream and for many at once, and how long those took.
"""

import asyncio
import json
import sys
import time

from openai import AsyncOpenAI


async def one(client: AsyncOpenAI, model: str) -> tuple[float, int]:
    """Seconds to the first token, and how many came."""
    began = time.perf_counter()
    first, count = 0.0, 0
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Go."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.perf_counter() - began
            count += 1
    return first, count


async def main(base_url: str, model: str, rounds: int, streams: int) -> None:
    client = AsyncOpenAI(base_url=base_url, api_key="bench", max_retries=0)
    await one(client, model)  # Builds what is built once.
    first_token = [(await one(client, "stream-10-50"))[0] for _ in range(rounds)]
    alone_cpu, alone_wall, alone_tokens = await measured(client, model, 1)
    cpu, wall, tokens = await measured(client, model, streams)
    print(
        json.dumps(
            {
                "first_token": first_token,
                "cpu_one": alone_cpu / alone_tokens * 1000,
                "cpu_many": cpu / tokens * 1000,
                "wall_one": alone_wall,
                "wall_many": wall,
            }
        )
    )


async def measured(client: AsyncOpenAI, model: str, streams: int) -> tuple[float, float, int]:
    cpu, wall = time.process_time(), time.perf_counter()
    results = await asyncio.gather(*(one(client, model) for _ in range(streams)))
    return time.process_time() - cpu, time.perf_counter() - wall, sum(count for _, count in results)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
