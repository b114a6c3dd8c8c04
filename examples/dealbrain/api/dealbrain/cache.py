"""What redis holds for a while besides the queue."""

STATS_KEY = "dealbrain:cache:stats"
STATS_TTL_SECONDS = 30
