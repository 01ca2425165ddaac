"""HTTP to Procore and its storage: addresses, transport, bodies, retries."""
