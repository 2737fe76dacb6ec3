"""Statistics: intervals, corrections and decisions on one row a user. Pure: arrays in, arrays out."""
