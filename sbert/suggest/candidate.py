"""The candidate encoder whose neighbours are compared with those of the table's encoder."""

from sbert.errors import SettingsError
from sbert.registry.store import Registry

__all__ = ["candidate_model"]


def candidate_model(models_uri: str | None, version: str | None) -> str | None:
    """Return the model folder to compare the table's encoder with: `version`, else the newest that is not production.

    Raises:
        SettingsError: when a version is named without a registry.
        RegistryError: when there is no such version.
    """
    if models_uri is None:
        if version is not None:
            raise SettingsError(f"candidate {version}: name the registry it is in")
        return None
    registry = Registry(models_uri)
    if version is not None:
        return registry.model_uri(registry.version(version).version)
    production = registry.production()
    others = [
        record.version
        for record in registry.versions()
        if (production is None or record.version != production.version) and registry.has_weights(record.version)
    ]
    return registry.model_uri(others[-1]) if others else None
