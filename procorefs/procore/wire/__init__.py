"""JSON as Procore sends it, checked and turned into models."""
