"""The sandbox's own API: what tests set up, change and look at; no part of Procore."""
