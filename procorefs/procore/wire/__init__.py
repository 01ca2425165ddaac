"""Decodes and checks the JSON of Procore's answers."""
