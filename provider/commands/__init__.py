"""The commands that a person types. A command with more than one module has a folder; a folder never imports another.

Read `app` first, which registers the commands and reports their errors, then the folder of one command. Shared are:
`errors`; `connect`, `options` and `output`; `arguments` and `connection_file` for `call`; and the folder `dev_lattice`.
"""
