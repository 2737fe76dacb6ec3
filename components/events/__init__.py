"""Events: the team's tables and a dataset contract become a validated, content-addressed snapshot."""
