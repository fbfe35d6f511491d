"""Active learning: which texts of a table to label next."""

from sbert.suggest.settings import SuggestionKind, SuggestSettings
from sbert.suggest.suggest import Suggestions, suggest

__all__ = ["SuggestSettings", "SuggestionKind", "Suggestions", "suggest"]
