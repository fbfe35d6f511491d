"""Keep the groups of texts of a table that say the same up to date.

Run it with ``sbert duplicates TABLE OUT``, or as a deployment that follows each published version.
"""

from typing import Annotated

from prefect import flow

from flows.derived_steps import run_derivation
from flows.engines import EngineSettings
from flows.hooks import HOOKS
from flows.neighbours import OutUri
from flows.parameters import Concurrency, ExistingTableUri, Explain, Text, completed, form, location, make_form
from flows.run_names import named_after
from sbert.apply.duplicates.fit import FitSettings
from sbert.apply.duplicates.run import DuplicateSettings, DuplicatesReport, count_groups, duplicates_job

__all__ = ["find_duplicate_texts"]


@flow(name="find-duplicates", flow_run_name=named_after("duplicates {table_uri}"), persist_result=False, **HOOKS)
def find_duplicate_texts(
    table_uri: ExistingTableUri,
    out_uri: OutUri,
    similarity: Annotated[
        float | None,
        form(
            title="Similarity",
            ge=0.3,
            lt=1,
            description="Least cosine of two texts that say the same. Empty: 0.9, or with labels the fitted rule.",
        ),
    ] = None,
    labels_uri: Annotated[
        Text,
        location(
            title="Labelled pairs",
            may_be_empty=True,
            description="Labels (scored_pairs or pairs) that the rule is fitted on, in place of a cosine. "
            "Empty: none. Example: s3://company-labels/duplicates",
        ),
    ] = None,
    precision: Annotated[
        float | None,
        form(
            title="Precision",
            gt=0.5,
            lt=1,
            description="With labels: promised share of right pairs among those called the same (0.5 to 1). Empty: the "
            "best F1.",
        ),
    ] = None,
    conflict_check: Annotated[
        bool,
        form(
            title="Check for conflicts", description="Keep texts apart that differ in a number, a name or a negation."
        ),
    ] = True,
    text_column: Annotated[
        Text,
        form(title="Text column", description="Kept column that holds the text. Empty: the encoded one. Example: body"),
    ] = None,
    concurrency: Concurrency = 1,
    explain: Explain = False,
    guard: Annotated[
        bool | None, form(title="Guard", description="The old name of the check for conflicts; it is not in the form.")
    ] = None,
) -> DuplicatesReport:
    """Write the group and the representative of every row to a derived table; compare only changed rows.

    Returns:
        What was done, in numbers.
    """
    settings = DuplicateSettings.model_validate(
        {
            "similarity": similarity or None,
            "labels_uri": labels_uri or None,
            "fit": FitSettings(precision=precision or None),
            "text_column": text_column or None,
            "explain": explain,
            **({"conflict_check": conflict_check} if guard is None else {"guard": guard}),
        }
    )
    job = duplicates_job(table_uri, settings)
    report = run_derivation(job, table_uri, out_uri, concurrency=concurrency, engine=EngineSettings())
    grouped = count_groups(report, job)
    return completed(grouped, grouped.summary())


make_form(find_duplicate_texts, "guard")
