"""Histories of concurrent calls while a cluster has faults, and a checker that decides whether they are linearizable.

Read `rounds` first, then `faults` and `callers`; `checker` and `model` stand alone.
"""
