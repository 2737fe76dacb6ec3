"""The card's sections, one module each: from what was opened to sentences, pictures and tables."""
