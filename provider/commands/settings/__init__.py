"""`keyvalue-nats settings`: the table of all settings, and the explanation of one.

Read `setting_table` (the rows: link values, keys of provider.toml and config_json, environment variables; also the source
of docs/settings.md), then `command`.
"""
