"""Active learning: which texts of a table to label next.

Settings and what computes are modules of their own, not imported here: the command line needs the choices alone, at once.
"""

from sbert.suggest.kinds import SuggestionKind

__all__ = ["SuggestionKind"]
