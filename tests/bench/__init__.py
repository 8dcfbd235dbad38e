"""The benchmark: `make bench`. Read `__main__` first, then `report`."""
