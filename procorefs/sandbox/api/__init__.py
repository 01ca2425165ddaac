"""The REST API of the embedded Procore: its contract, limits, login and routes."""
