"""A Redis client under whose clock every script of the product runs, the services of `ops` included."""

from typing import Any

import redis


class ClockedRedis(redis.Redis):
    """Gives each script `now_ms` where it would ask Redis for the time."""

    now_ms: int = 0

    def dated(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a command with the time in a script's first argument, if that is left to Redis."""
        if command[0] == "EVALSHA" and command[4] == "":
            return (*command[:4], self.now_ms, *command[5:])
        return command

    def time(self, **_: Any) -> tuple[int, int]:
        """Return the same clock's seconds and microseconds."""
        return self.now_ms // 1000, self.now_ms % 1000 * 1000

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Send one command."""
        return super().execute_command(*self.dated(command), **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "_ClockedPipeline":
        """Return a pipeline under the same clock."""
        return _ClockedPipeline(self, transaction, shard_hint)


class _ClockedPipeline(redis.client.Pipeline):
    def __init__(self, client: ClockedRedis, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._dated = client.dated

    def execute_command(self, *command: Any, **options: Any) -> Any:
        return super().execute_command(*self._dated(command), **options)
