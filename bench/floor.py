"""The floor: a bare script with the `openai` SDK, run as a process of its own so that its CPU is nobody else's.

Prints one JSON object: seconds to the first token (each of the rounds, idle), CPU seconds per 1,000 tokens for one
stream and for many at once, and how long those took; seconds per step of a loop of function calls, with the SDK and
with ready bytes over plain HTTP. The latter is what the model server takes.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx2
from openai import AsyncOpenAI

TOOL = {
    "name": "calculate",
    "description": "Calculate.",
    "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
}


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


def task(steps: int) -> str:
    """A message that makes the fake model server call a function so many times, one after the other."""
    turns = [{"calls": [{"name": "calculate", "arguments": {"expression": f"{n}+1"}}]} for n in range(steps)]
    return f"@turns {json.dumps([*turns, {'text': 'Done.'}])}"


async def loop_of_sdk(client: AsyncOpenAI, steps: int) -> float:
    """Seconds per step."""
    messages: list[Any] = [{"role": "user", "content": task(steps)}]
    tools: list[Any] = [{"type": "function", "function": TOOL}]
    began = time.perf_counter()
    for step in range(steps + 1):
        stream = await client.chat.completions.create(model="echo", messages=messages, tools=tools, stream=True)
        call_id, arguments = "", ""
        async for chunk in stream:
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                call_id = call_id or call.id or ""
                arguments += (call.function.arguments if call.function else "") or ""
        assert bool(call_id) == (step < steps)
        messages += answered(call_id, arguments)
    return (time.perf_counter() - began) / steps


async def loop_of_http(base_url: str, steps: int) -> float:
    """Seconds per step where nothing is done that is not needed: bytes out, bytes in."""
    first = {"model": "echo", "stream": True, "tools": [{"type": "function", "function": TOOL}]}
    body = json.dumps(first)[:-1] + ', "messages": [' + json.dumps({"role": "user", "content": task(steps)})
    headers = {"Authorization": "Bearer bench", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(trust_env=False, headers=headers) as client:
        began = time.perf_counter()
        for step in range(steps + 1):
            response = await client.post(f"{base_url}/chat/completions", content=body + "]}")
            assert response.status_code == 200
            assert ("tool_calls" in response.text) == (step < steps)
            body += "".join(f", {json.dumps(message)}" for message in answered(f"id-{step}", '{"expression": "1+1"}'))
        return (time.perf_counter() - began) / steps


def answered(call_id: str, arguments: str) -> list[Any]:
    call = {"id": call_id, "type": "function", "function": {"name": "calculate", "arguments": arguments}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": "2"},
    ]


async def main(base_url: str, model: str, rounds: int, streams: int, loops: list[int]) -> None:
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
                "loops": {
                    steps: {"sdk": await loop_of_sdk(client, steps), "http": await loop_of_http(base_url, steps)}
                    for steps in loops
                },
            }
        )
    )


async def measured(client: AsyncOpenAI, model: str, streams: int) -> tuple[float, float, int]:
    cpu, wall = time.process_time(), time.perf_counter()
    results = await asyncio.gather(*(one(client, model) for _ in range(streams)))
    return time.process_time() - cpu, time.perf_counter() - wall, sum(count for _, count in results)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), json.loads(sys.argv[5])))
