"""The embedded Procore: a strict server of the published API, for the demo and the tests."""
