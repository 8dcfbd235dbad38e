"""Values of any size: a head in the bucket and immutable pages in a stream beside it.

Read `paged_value` first: the head, the names of pages, and the protocol between an operation and the store of the pages.
Pure: `head` and `page_codec` (stored forms), `tree_reads`, `tree_changes` and `tree_edits` (the copy-on-write tree),
`paged_reads` (the reads of callers), `working_copy` and `settling` (a batch of changes, and the pages and head to write for it).
`paging` puts it all together for a bucket: `value_reader`, `value_writer`, and `runner`, which carries out their operations.
`page_store` reads and writes pages (`page_reader`, `page_cache`) in a stream of their own (`pages_stream`, `pages_settings`);
`garbage` removes them.
"""
