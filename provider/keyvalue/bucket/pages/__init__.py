"""Values of any size: a head in the bucket and immutable pages in a stream beside it.

Read `paged_value` first: the head, the names of pages, and the protocol between an operation and the store of the pages.
`head` is the stored form of a head, `page_codec` that of a page, `tree` the copy-on-write tree that the pages make up.
`page_store` reads and writes pages (`page_reader`, `page_cache`) in a stream of their own (`pages_stream`, `pages_settings`);
`garbage` removes them.
"""
