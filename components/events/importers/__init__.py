"""Public data sets to rankgate's tables and a commented dataset contract: one module a data set."""
