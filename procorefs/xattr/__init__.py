"""Extended attributes: what Procore knows of a document beside its bytes, and what other programs leave at a file."""
