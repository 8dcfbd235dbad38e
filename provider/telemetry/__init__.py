"""Metrics and traces: the names and values of all metrics, and the export over OTLP.

Read `metrics` first, which the exporter for Prometheus uses too, then `export`; `urls` decides where it goes.
"""
