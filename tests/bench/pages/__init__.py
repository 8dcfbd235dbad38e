"""Values with pages: their speed beside that of small values, the room that they take, and Redis as a yardstick."""
