"""The REST client of Procore: login, requests, decoding, calls, errors."""
