"""Extended attributes: the metadata of documents in Procore, and attributes of other programs."""
