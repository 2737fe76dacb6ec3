"""Card: everything measured and decided becomes the document a reviewer reads and signs."""
