"""`python -m dealbrain.hooks EVENT VERSION`: what a release does to this application's
caches. EVENT is `promote` or `rollback`. Exit code 0 when the cache is clear."""

import sys

from redis import Redis

from dealbrain.cache import STATS_KEY
from dealbrain.settings import Settings


def main(arguments: list[str]) -> int:
    match arguments:
        case [("promote" | "rollback") as event, version]:
            with Redis.from_url(Settings.read().redis_url, socket_timeout=5) as redis:
                removed = redis.delete(STATS_KEY)
            print(f"{event} {version}: {removed} cached page(s) removed")
            return 0
        case _:
            print("usage: dealbrain.hooks promote|rollback VERSION", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
