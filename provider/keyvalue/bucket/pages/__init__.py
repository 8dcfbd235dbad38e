"""Values of any size: a head in the bucket and immutable pages in a stream beside it.

Read `paged_value` first: the head, the names of pages, and the protocol between an operation and the store of the pages.
`head` is the stored form of a head, `page_codec` that of a page, `tree` the copy-on-write tree that the pages make up.
"""
