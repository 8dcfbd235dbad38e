"""`keyvalue-nats exporter`: the metrics of all instances of a lattice for Prometheus.

Read `command` first, then `scrape`, which turns the statistics of instances into the families of metrics.
"""
