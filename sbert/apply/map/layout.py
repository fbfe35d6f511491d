"""Places of rows in the plane: t-SNE from principal components, repeatable by its seed.

Each row is drawn to its nearest rows (uniform affinities) and pushed away from all others. With many rows the attraction is
exaggerated, so that groups stay apart as with UMAP (Böhm, Berens and Kobak 2022, "Attraction-Repulsion Spectrum in Neighbor
Embeddings"). The repulsion is interpolated (Linderman et al. 2019, "FIt-SNE"), so the time grows linearly with the rows.
"""

import numpy as np
import numpy.typing as npt

from sbert.apply.map.settings import LayoutSettings
from sbert.apply.principal_components import principal_components
from sbert.runtime.cpus import available_cpus

__all__ = ["lay_out"]

Float32 = npt.NDArray[np.float32]
FEW_ROWS = 10
"""With fewer rows, principal components give the places."""
INTERPOLATED_ROWS = 10_000
"""Rows from which on interpolation of the repulsion is faster than a tree."""
THREADED_ROWS = 2_000
"""Rows below which threads wait for each other longer than they compute."""
EARLY = {"n_iter": 200, "exaggeration": 12.0, "momentum": 0.5}
LATE = {"n_iter": 300, "momentum": 0.8}
EXAGGERATED_ROWS = 40_000
"""Rows from which on groups are drawn together; otherwise the many rows between them would fill the gaps."""
MAX_EXAGGERATION = 2.5


def lay_out(vectors_ND: Float32, settings: LayoutSettings) -> Float32:
    """Return the place of each row, shape (N, 2): centred, the farthest 0.1 % aside within -1 and 1."""
    components_NC = principal_components(vectors_ND)
    free_N2 = components_NC[:, :2] if len(vectors_ND) < FEW_ROWS else _embed(components_NC, settings)
    places_N2 = free_N2 - np.median(free_N2, axis=0)
    extent = np.quantile(np.abs(places_N2), 0.999) if len(places_N2) else 1.0
    return np.ascontiguousarray(places_N2 / max(float(extent), 1e-9), np.float32)


def _embed(components_NC: Float32, settings: LayoutSettings) -> Float32:
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import Uniform

    num_threads = 1 if len(components_NC) < THREADED_ROWS else available_cpus()
    shared = {"n_jobs": num_threads, "random_state": settings.seed}
    affinities = Uniform(
        components_NC.astype(np.float64),
        k_neighbors=min(settings.num_neighbours, len(components_NC) - 1),
        method="annoy",
        **shared,
    )
    begin = components_NC[:, :2].astype(np.float64)
    begin = begin / max(float(begin[:, 0].std()), 1e-12) * 1e-4
    method = "fft" if len(components_NC) >= INTERPOLATED_ROWS else "bh"
    places = TSNEEmbedding(begin, affinities, negative_gradient_method=method, **shared)
    late = float(np.clip(len(components_NC) / EXAGGERATED_ROWS, 1.0, MAX_EXAGGERATION))
    places = places.optimize(learning_rate="auto", **EARLY)
    places = places.optimize(learning_rate="auto", exaggeration=late, **LATE)
    return np.asarray(places, np.float32)
