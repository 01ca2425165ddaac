"""Makes the calls of Procore's API, one method a call."""
