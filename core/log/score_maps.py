"""Gateway placeholder."""

LEAST_ROWS, MOST_ROWS = 200, 2_000
