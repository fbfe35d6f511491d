"""The model card of a version, in the Hugging Face format: metadata for programs, then text for people."""

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sbert.registry.version_record import VersionRecord

__all__ = ["model_card"]


def model_card(record: VersionRecord) -> str:
    """Return the text of ``README.md``."""
    labels = record.labels
    data = ModelCardData(
        model_name=record.version,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "sentence-similarity"],
        base_model=record.base,
        eval_results=_results(record.after or {}) or None,
    )
    lines = [
        "---",
        data.to_yaml(),
        "---",
        "",
        f"# {record.version}",
        "",
        f"A sentence encoder of dim {record.dim}, {'fine-tuned from' if labels else 'imported from'} `{record.base}`.",
        "",
        "| | |",
        "| --- | --- |",
        f"| encoder fingerprint | `{record.encoder_fingerprint}` |",
        f"| made | {record.created_at}, run `{record.run_id}` |",
    ]
    if labels is not None:
        counts = ", ".join(f"{count:,} {name}" for name, count in labels.counts.items())
        lines += [
            f"| labels | `{labels.uri}` ({labels.kind}: {counts}) |",
            f"| labels fingerprint | `{labels.fingerprint}` |",
        ]
    if record.decision is not None:
        verdict = "promoted" if record.decision["promoted"] else "refused"
        lines += ["", f"The promotion gate **{verdict}** it: {'; '.join(record.decision['reasons'])}."]
    lines += [
        "",
        "```python",
        "from sbert import SentenceEncoder",
        "",
        'encoder = SentenceEncoder.from_pretrained("this folder")  # or sentence_transformers.SentenceTransformer',
        "```",
        "",
    ]
    return str(ModelCard("\n".join(lines)))


def _results(after: dict[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="sentence-similarity",
            dataset_type=evaluation_set["kind"],
            dataset_name=evaluation_set["name"],
            dataset_revision=evaluation_set["fingerprint"][:12],
            metric_type=name,
            metric_value=round(value["value"], 6),
        )
        for evaluation_set in after.get("sets", {}).values()
        for name, value in evaluation_set["metrics"].items()
    ]
