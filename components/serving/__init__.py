"""Online answers: what is asked becomes a list, whatever goes wrong on the way."""
