"""The reads of a bucket: `reads` repeats an attempt, `consistency` makes one, `stored_form` decodes the message."""
