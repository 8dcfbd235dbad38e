"""Histories of concurrent calls under faults, and a checker that says whether they could have happened one by one."""
