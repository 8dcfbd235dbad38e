"""What measures the provider: load from a process of its own, yardsticks of the same run, targets as ratios of both."""
