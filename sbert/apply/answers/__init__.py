"""The best answers of every question, how sure they are, and silence where there is none."""
