"""A Redis client under whose clock every script of the product runs, the services of `ops` included, without chance."""

import hashlib
from typing import Any

import redis

_SAMPLED = """
local function sampled(command, key, most)
  local all = command == 'ZRANGE' and redis.call(command, key, 0, -1) or redis.call(command, key)
  table.sort(all)
  local found, first = {}, tonumber(ARGV[1]) or 0
  for i = 1, math.min(tonumber(most) or #all, #all) do
    found[i] = all[(first + i) % #all + 1]
  end
  return found
end
"""
"""A substitute for Redis' random samples, and for sets, whose order differs from server to server."""
_UNKNOWN = "0" * 40


class ClockedRedis(redis.Redis):
    """Gives each script `now_ms` where it would ask Redis for the time, and samples that a seed repeats."""

    now_ms: int = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._loaded: dict[str, str] = {}
        """SHA-1 of a script → that of what runs in its place."""

    def dated(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a command as this client sends it."""
        if command[0] == "EVALSHA":
            now_ms = self.now_ms if command[4] == "" else command[4]
            return (command[0], self._loaded.get(command[1], _UNKNOWN), *command[2:4], now_ms, *command[5:])
        if command[:2] == ("SCRIPT", "LOAD"):
            source = _without_chance(command[2])
            self._loaded[_sha(command[2])] = _sha(source)
            return (*command[:2], source)
        return command

    def time(self, **_: Any) -> tuple[int, int]:
        """Return the same clock's seconds and microseconds."""
        return self.now_ms // 1000, self.now_ms % 1000 * 1000

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Send one command."""
        return super().execute_command(*self.dated(command), **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "_ClockedPipeline":
        """Return a pipeline under the same clock."""
        return _ClockedPipeline(self, transaction, shard_hint)


class _ClockedPipeline(redis.client.Pipeline):
    def __init__(self, client: ClockedRedis, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._dated = client.dated

    def execute_command(self, *command: Any, **options: Any) -> Any:
        return super().execute_command(*self._dated(command), **options)  # type: ignore[no-untyped-call]


def _sha(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def _without_chance(source: str) -> str:
    shebang, _, rest = source.partition("\n")
    for command, whole in (("SRANDMEMBER", "SMEMBERS"), ("ZRANDMEMBER", "ZRANGE"), ("SMEMBERS", "SMEMBERS")):
        rest = rest.replace(f"redis.call('{command}', ", f"sampled('{whole}', ")
    return shebang + _SAMPLED + rest
