"""Geometry of the card's pictures: figures in, places on a 0..100 track out. The templates draw, CSS colours."""
