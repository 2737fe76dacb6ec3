"""Evidence: datasets and rankings become measurements, one file a question, each with its uncertainty."""
