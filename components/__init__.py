"""Rooms of rankgate, in the order in which data flows through them."""
