"""Keep the word index of a table up to date.

Run it with ``sbert index-words TABLE``, or as a deployment that follows each published version.
"""

import uuid
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run

from flows.hooks import HOOKS
from flows.parameters import ANY_JSON, ExistingTableUri, advanced_form, completed, form, make_form, read_advanced
from flows.run_names import named_after
from sbert.index.words.settings import WordSettings
from sbert.index.words.word_index import WordIndexReport
from tasks.index import build_word_index, report_word_index

__all__ = ["index_table_words"]


@flow(name="index-words", flow_run_name=named_after("words of {table_uri}"), persist_result=False, **HOOKS)
def index_table_words(
    table_uri: ExistingTableUri,
    settings: Annotated[
        WordSettings,
        read_advanced(WordSettings),
        ANY_JSON,
        advanced_form("index-words", '{"text_column": "body"}'),
    ] = WordSettings(),  # noqa: B008  (frozen)
    check: Annotated[
        bool, form(title="Check", description="Read every byte of the word index, and build damaged segments again.")
    ] = False,
) -> WordIndexReport:
    """Index the words of the splits that the newest version has and the word index lacks.

    Returns:
        What was done, in numbers.
    """
    report = build_word_index(table_uri, settings, check, str(flow_run.get_id() or uuid.uuid4()))
    report_word_index(report)
    return completed(report, report.summary())


make_form(index_table_words)
