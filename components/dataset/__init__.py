"""Dataset: a snapshot becomes requests x candidates with point-in-time features, labels, groups and a split."""
