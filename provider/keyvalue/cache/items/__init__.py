"""The members of a set and the elements of a list, of which there may be millions: nothing here takes long at a time.

`blocks` keeps items in order, `dots` finds them by their dots, `collections` has sets and lists. `walks` reads and searches them
in slices, while others change them.
"""
