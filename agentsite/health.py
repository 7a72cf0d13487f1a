"""Is it alive? The questions that /healthz, `doctor` and `up` ask of the parts that this process does not contain."""

import asyncio
import uuid
from contextlib import closing

import redis.asyncio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection

DATABASE_SECONDS = 2.0
REDIS_SECONDS = 2.0
PONG_EVERY = 0.02
QUESTION = "healthz"  # The name of the ping that /healthz sends, and
TRACES = (f"ping:{QUESTION}", f"ping-sent:{QUESTION}")  # the keys in Redis that tell of it.
# What a Redis that is down, starting, full or wrongly addressed makes redis-py raise.
REDIS_ERRORS = (redis.RedisError, OSError, TimeoutError)


def redis_client() -> "redis.asyncio.Redis":
    """A client for one question; use it as an async context manager."""
    return redis.asyncio.from_url(
        settings.REDIS_URL, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS, decode_responses=True
    )


async def database_answers() -> bool:
    """Whether the database executes a statement within DATABASE_SECONDS."""

    def ask() -> bool:
        try:
            with closing(connection), connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseError:
            return False
        return True

    try:
        # On a thread of its own: a database that is away keeps whoever asks for as long as the pool has patience.
        return await asyncio.wait_for(sync_to_async(ask, thread_sensitive=False)(), DATABASE_SECONDS)
    except TimeoutError:
        return False


async def redis_answers() -> bool:
    """Whether Redis answers within REDIS_SECONDS."""
    try:
        async with redis_client() as client:
            await client.ping()
    except REDIS_ERRORS:
        return False
    return True


async def worker_answers(seconds: float) -> bool:
    """Whether some worker takes a new message from the broker and answers it within `seconds`.

    Raises:
        One of REDIS_ERRORS, or kombu's OperationalError: The message could not even be sent.
    """
    token = uuid.uuid4().hex
    send_ping(token)
    return await pong_within(seconds, token)


def send_ping(token: str) -> None:
    """Ask the workers to set the Redis key `ping:<token>`. One that nobody took within a minute is not run any more."""
    from executor.tasks import ping  # Needs the apps to be loaded, and most who ask for less never need it.

    ping.apply_async((token,), expires=60)


async def pong_within(seconds: float, token: str) -> bool:
    """Wait until a worker has answered the ping called `token`."""
    try:
        async with asyncio.timeout(seconds), redis_client() as client:
            while not await client.exists(f"ping:{token}"):  # noqa: ASYNC110  (the event is in another process)
                await asyncio.sleep(PONG_EVERY)
    except TimeoutError:
        return False
    return True
