"""The ranking service: candidates in, an ordered list out, by the ranker of one approved release."""
