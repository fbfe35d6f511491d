"""Describe an encoder: from the record of an earlier load where there is one, else by loading it."""

from sbert.encoder.description import EncoderDescription, EncoderSpec
from sbert.encoder.load_record import find_record, record_path
from sbert.encoder.model_location import locate_model

__all__ = ["describe_model"]


def describe_model(spec: EncoderSpec) -> EncoderDescription:
    """Return the facts about an encoder that decide its vectors and their shape.

    Raises:
        ModelError: when the model cannot be found or loaded.
        QualityError: when its vectors for a dozen very different texts are not finite, or nearly equal.
    """
    record = find_record(record_path(locate_model(spec.model), spec))
    if record is not None:
        return record.description
    from sbert.encoder.process_cache import load_encoder

    return load_encoder(spec).description
