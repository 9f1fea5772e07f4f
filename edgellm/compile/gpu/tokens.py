"""What a step says of each of its tokens, as one table int32[n, FIELDS]."""

FIELDS = 4
ID = 0
POSITION = 1
SLOT = 2
"""Block * 16 + place in it, where the token's key and value go."""
SEQUENCE = 3
"""Row of the block tables."""
