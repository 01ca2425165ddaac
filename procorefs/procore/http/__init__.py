"""Sends HTTP requests to Procore and its storage: addresses, connections, bodies, retries."""
