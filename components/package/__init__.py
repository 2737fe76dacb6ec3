"""Package: an approved ranker becomes a bento."""
