"""The help pages as they are printed, since typer takes some fifteen times as long to load as Python itself.

`stored` prints one of `pages` and `kv_pages`, which `make docs` writes from the command line. `style` has the colors.
"""
