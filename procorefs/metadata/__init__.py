"""Extended attributes: what Procore knows of a document beside its bytes, and what other programs leave at a file.

names.py    which attributes there are, which are listed, which may be set or removed
texts.py    tags, truths and people as text, and back          } pure
fields.py   custom fields by label, their values by type       }
tags.py     who bears which tag: asked for in few calls, kept for a while
book.py     the project's custom fields and their choices, remembered over mounts
twins.py    two names of one value that come in one copy
others.py   attributes of other programs
attributes.py  get, list, set and remove: what the kernel's side calls
"""
