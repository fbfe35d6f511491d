"""Summaries: the sentences of each document that say most of it, in their order, within a budget."""
