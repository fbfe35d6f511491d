"""The best answers of every question with their probabilities, or no answer."""
