"""Deal Brain: listings of computers and what they are worth."""
