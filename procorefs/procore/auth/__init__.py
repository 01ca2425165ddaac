"""Gets, renews and stores access tokens."""
