"""Active learning: which texts of a table to label next.

What computes is in `sbert.suggest.suggest` and not imported here: the command line needs the choices alone, at once.
"""

from sbert.suggest.settings import SuggestionKind, SuggestSettings

__all__ = ["SuggestSettings", "SuggestionKind"]
