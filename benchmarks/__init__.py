"""Measured claims: studies that run through the API, one committed JSON a run, and the tables made from them."""
