"""`keyvalue-nats par`: builds and inspects provider archives.

Read `command` first, then `build`. An archive is an `archive_file` with `archive_claims`, signed with `key_files`. Its
executables are a `zipapp` or `bundled`; both pack a `payload` of `distributions` for one of the `targets`, and start with
`bootstrap`. `interpreter` and `compiled` copy Python itself and shared libraries;
`child_processes` tells why a program has failed.
"""
