"""Ranker: a dataset becomes candidates, a trained LambdaMART ranker, baselines and the rankings they produce."""
